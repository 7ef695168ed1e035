"""Scenes of many who ask for the same at once: kinds of requests and answers, an origin whose answer comes piece by
piece as the test says, and clients that take what is there."""

import json
import threading
import time

import pytest
from backend import keep_answering
from programs import http_route, inference_route
from rawhttp import Client, Ended, wait_until

FRESH = 'Cache-Control: max-age=60\r\n'


def status_of(response):
    return response.fields['cache-status']


def is_hit(response):
    return status_of(response).startswith('sluice; hit')


def is_joined(response):
    return '; collapsed' in status_of(response)


# ---- three kinds of answers, each in a head and three pieces ----


class Http:
    pieces = [b'a' * 30_000, b'b' * 30_000, b'c' * 30_000]
    fields = FRESH
    chunked = False

    @staticmethod
    def route(**cache):
        route = http_route()
        route['http']['cache'] = {'enabled': True, **cache}
        return route

    @staticmethod
    def request(path, fields='', **_):
        return f'GET {path} HTTP/1.1\r\nHost: t\r\n{fields}\r\n'


class Chat:
    message = {'id': 'c', 'object': 'chat.completion', 'created': 1, 'model': 'm', 'choices': [
        {'index': 0, 'message': {'role': 'assistant', 'content': 'word ' * 6000}, 'finish_reason': 'stop'}],
        'usage': {'prompt_tokens': 1, 'completion_tokens': 6000, 'total_tokens': 6001}}
    text = json.dumps(message).encode()
    pieces = [text[:10_000], text[10_000:20_000], text[20_000:]]
    fields = 'Content-Type: application/json\r\n'
    stream = False
    chunked = False

    @staticmethod
    def route(**cache):
        route = inference_route()
        route['inference']['cache'] = {'enabled': True, **cache}
        return route

    @classmethod
    def request(cls, path, fields='', key='one', **more):
        body = json.dumps({'model': 'm', 'temperature': 0, 'stream': cls.stream, **more,
                           'messages': [{'role': 'user', 'content': path}]})
        return (f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n{fields}'
                f'Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}')


def event(word, finish=None):
    choice = {'index': 0, 'delta': {'content': word}, 'finish_reason': finish}
    chunk = {'id': 'c', 'object': 'chat.completion.chunk', 'created': 1, 'model': 'm', 'choices': [choice]}
    return b'data: ' + json.dumps(chunk).encode() + b'\n\n'


class Events(Chat):
    pieces = [event('one ') * 50, event('two ') * 50, event('three', 'stop') + b'data: [DONE]\n\n']
    fields = 'Content-Type: text/event-stream\r\n'
    stream = True
    chunked = True


KINDS = {'http': Http, 'chat': Chat, 'events': Events}
each_kind = pytest.mark.parametrize('kind', KINDS.values(), ids=KINDS.keys())
each_inference = pytest.mark.parametrize('kind', [Chat, Events], ids=['chat', 'events'])
each_width = pytest.mark.parametrize('workers', [1, 2])


def head_of(kind, status='200 OK', fields=None):
    framing = 'Transfer-Encoding: chunked' if kind.chunked else f'Content-Length: {sum(map(len, kind.pieces))}'
    return f'HTTP/1.1 {status}\r\n{framing}\r\n{kind.fields if fields is None else fields}\r\n'.encode()


def framed(kind, piece, is_last=False):
    if not kind.chunked:
        return piece
    return b'%x\r\n%s\r\n' % (len(piece), piece) + (b'0\r\n\r\n' if is_last else b'')


class Gated:
    """An origin that sends its answer's head and pieces one by one, as `allow` says."""

    def __init__(self, kind, fields=None, status='200 OK'):
        self.kind, self.fields, self.status = kind, fields, status
        self.steps = [threading.Event() for _ in range(4)]  # the head, and each piece
        self.ends = []  # how connections ended: (how, when)

    def allow(self, steps):
        for step in self.steps[:steps]:
            step.set()

    def fields_for(self, _request):
        return self.fields

    def answer(self, peer, request):
        pieces = [head_of(self.kind, self.status, self.fields_for(request))]
        pieces += [framed(self.kind, p, p is self.kind.pieces[-1]) for p in self.kind.pieces]
        for step, piece in zip(self.steps, pieces):
            self.await_step(peer, step)
            peer.send(piece)

    def await_step(self, peer, step):
        """Waits, and notes when the gateway goes meanwhile."""
        while not step.wait(0.001):
            peer.sock.settimeout(0.001)
            try:
                if not peer.fill():
                    self.ends.append((peer.how, time.monotonic()))
                    raise Ended(peer.how)
            except TimeoutError:
                pass
            peer.sock.settimeout(20)


class Personal(Gated):
    """Says something else each time: what `words` make of a number."""

    def __init__(self, kind, words, status='200 OK', gate=True):
        super().__init__(kind, status=status)
        self.words, self.count, self.lock = words, 0, threading.Lock()
        if not gate:
            self.allow(4)

    def fields_for(self, request):
        with self.lock:
            self.count += 1
            return self.kind.fields.replace(FRESH, '') + self.words.format(self.count) + f'X-Number: {self.count}\r\n'


class Scene:
    def __init__(self, world, kind, origin, workers=1, rules=None, **more):
        self.kind, self.origin = kind, origin
        answer = origin.answer if isinstance(origin, Gated) else origin
        self.backend, self.gateway = world.in_front_of(keep_answering(answer), [kind.route(**(rules or {}))],
                                                       workers=workers, **more)

    def ask(self, path='/x', receive_buffer=None, address=None, **more):
        client = Client(address or self.gateway.address, timeout=60, receive_buffer=receive_buffer)
        client.send(self.kind.request(path, **more))
        client.taken = bytearray()
        client.answer = None
        return client

    def asked(self):
        return len(self.backend.requests)

    def lead(self, path='/x', **more):
        """One that asks and is known to have been the first."""
        before = self.asked()
        client = self.ask(path, **more)
        wait_until(lambda: self.asked() > before, what='the first request upstream')
        return client

    def wait_active(self, count):
        """So many requests are with the gateway. Whether they have joined is not seen: a message may be under way."""
        wait_until(lambda: self.gateway.metrics().value('sluice_active_requests') == count, 20, f'{count} active')
        time.sleep(0.05)

    def stored(self, path='/x', **more):
        return wait_until(lambda: (r := whole(self.ask(path, **more))) and is_hit(r) and r or None, what='a hit')

    def results(self):
        metrics = self.gateway.metrics()
        return {r: int(metrics.value('sluice_cache_requests_total', result=r))
                for r in ('hit', 'miss', 'join', 'bypass')}

    def not_stored(self, reason):
        return self.gateway.metrics().value('sluice_cache_not_stored_total', reason=reason)


def take(client, count):
    """The first `count` bytes of the answer's body, however it is framed: as soon as they are there."""
    if client.answer is None:
        client.answer = client.head()
    while len(client.taken) < count:
        if 'transfer-encoding' in client.answer.fields:
            chunk = client.chunk()
            assert chunk, 'it ended early'
            client.taken += chunk
        else:
            client.taken += client.need(count - len(client.taken))
    return bytes(client.taken[:count])


def whole(client):
    """The whole answer; what `take` has read already is part of it."""
    if client.answer is None:
        client.answer = client.head()
    response = client.answer
    left = client.taken
    if 'content-length' in response.fields:
        left += client.need(int(response.fields['content-length']) - len(left))
        response.body = bytes(left)
    else:
        client.body_of(response)
        response.body = bytes(left) + response.body
    client.close()
    return response


def upto(kind, count):
    return b''.join(kind.pieces[:count])


def large(kind, is_chunked, times=20):
    return type('Large', (kind,), {'pieces': [p * times for p in kind.pieces[:2]] + [kind.pieces[2]],
                                   'chunked': is_chunked})
