"""Batching: requests to array APIs that are under way at the same time leave as one, and come apart again."""

import json
import threading
import time

import pytest
from programs import inference_route
from rawhttp import Client, get, post, wait_until

EMBEDDINGS = '/v1/embeddings'
JSON = 'Content-Type: application/json\r\n'


def tokens_of(text):
    return len(str(text).split())


def vector_of(text):
    """Numbers whose spelling a reader of JSON would not keep."""
    seed = sum(str(text).encode())
    return f'[{seed}.10,-0.0,{seed}e-3,1.0E+2]'


class Arrays:
    """A backend of array APIs that can be held, refuses the item "bad", and breaks in other ways when told to."""

    def __init__(self, results='data', hold=False):
        self.results = results
        self.calls = []  # bodies
        self.heads = []
        self.lock = threading.Lock()
        self.permits = threading.Semaphore(0 if hold else 1 << 20)
        self.breaks = None  # (peer, items) → True when it has dealt with the call
        self.ended = []

    def items_of(self, body):
        for name in ('input', 'prompt', 'documents', 'text_2', 'things'):
            if name in body:
                items = body[name]
                ids = isinstance(items, list) and items and all(isinstance(i, int) for i in items)
                return [items] if isinstance(items, str) or (ids and name != 'things') else items
        raise AssertionError(f'no items in {body}')

    def result(self, index, item, body):
        if 'documents' in body:
            return f'{{"index":{index},"relevance_score":{1 - tokens_of(item) / 100},"document":{json.dumps(item)}}}'
        if 'prompt' in body:
            return f'{{"index":{index},"text":{json.dumps("re: " + str(item))},"finish_reason":"stop"}}'
        if 'things' in body:
            return f'{{"thing":{json.dumps(item)},"n":1.50}}'
        return f'{{"object":"embedding","embedding":{vector_of(item)},"index":{index}}}'

    def answer(self, peer, request):
        body = json.loads(request.body)
        items = self.items_of(body)
        with self.lock:
            self.calls.append(body)
            self.heads.append(request)
        assert self.permits.acquire(timeout=20), 'never let go'
        if self.breaks is not None and self.breaks(peer, items):
            return
        if 'bad' in items:
            peer.answer('{"error":{"message":"item %d is bad","type":"invalid_request_error"}}' % items.index('bad'),
                        status='400 Bad Request', fields=JSON + 'X-Why: bad\r\n')
            return
        results = [self.result(i, item, body) for i, item in enumerate(items)]
        if 'documents' in body:
            results.sort(key=lambda r: -json.loads(r)['relevance_score'])
        count = sum(tokens_of(i) for i in items)
        out = len(items) if 'prompt' in body else 0
        name = 'results' if 'documents' in body else 'choices' if 'prompt' in body else self.results
        usage = f'{{"prompt_tokens":{count},"completion_tokens":{out},"total_tokens":{count + out}}}'
        peer.answer(f'{{"object":"list","{name}":[{",".join(results)}],"model":{json.dumps(body.get("model"))},'
                    f'"usage":{usage}}}', fields=JSON + 'X-Backend: it\r\nX-Request-Id: backends\r\n')

    def script(self, peer):
        while True:
            request = peer.request()
            if request is None:
                self.ended.append(peer.how)
                return
            self.answer(peer, request)

    def let_go(self, calls=1 << 20):
        self.permits.release(calls)

    def sizes(self):
        with self.lock:
            return [len(self.items_of(body)) for body in self.calls]


class Asking:
    def __init__(self, gateway, body, path=EMBEDDINGS, fields=''):
        self.client = Client(gateway.address)
        text = body if isinstance(body, str) else json.dumps(body)
        self.client.send(f'POST {path} HTTP/1.1\r\nHost: t\r\n{JSON}{fields}Content-Length: {len(text)}\r\n\r\n{text}')

    def response(self):
        response = self.client.response()
        self.client.close()
        return response


class Scene:
    def __init__(self, world, hold=False, workers=1, cache=False, limit=8, scheduling=None, more=None, **batching):
        self.arrays = Arrays(hold=hold, **(more or {}))
        self.backend = world.backend(self.arrays.script)
        route = inference_route()
        route['inference']['batching'] = {'enabled': True, 'wait_max_ms': 200, **batching}
        route['inference']['cache'] = cache
        scheduling = scheduling if scheduling is not None else {'limiter': 'fixed', 'concurrency': limit}
        self.gateway = world.gateway([route], endpoints=[self.backend], workers=workers,
                                     upstream={'scheduling': scheduling})

    def ask(self, item, path=EMBEDDINGS, fields='', **more):
        body = {'model': 'm', **({} if item is None else {'input': item}), **more}
        return Asking(self.gateway, body, path, fields)

    def hold_one(self, path=EMBEDDINGS, **more):
        """With one call at the backend, those that come after it merge."""
        first = self.ask('the first', path, **more)
        wait_until(lambda: len(self.arrays.calls) == 1, what='the first call at the backend')
        return first

    def value(self, name, **labels):
        return self.gateway.metrics().value(name, **labels)

    def wait_waiting(self, items):
        wait_until(lambda: self.value('sluice_batch_waiting_items') == items, what=f'{items} items that wait')

    def settle(self):
        wait_until(lambda: self.value('sluice_batch_calls') == 0, what='no call under way')
        assert self.value('sluice_batch_waiting_items') == 0
        assert self.value('sluice_sched_grants_outstanding') == 0


def merged(scene, bodies, path=EMBEDDINGS, **more):
    """Has these be sent as one call: the responses."""
    first = scene.hold_one(path, **more)
    asking = [Asking(scene.gateway, body, path) for body in bodies]
    count = sum(len(scene.arrays.items_of(json.loads(b) if isinstance(b, str) else b)) for b in bodies)
    scene.wait_waiting(count)
    scene.arrays.let_go()
    first.response()
    return [a.response() for a in asking]


def embeddings(response):
    """Each embedding as it is spelled."""
    assert response.status == 200, response.body
    text = response.body.decode()
    return [text[at:text.index(']', at) + 1] for at in
            (m + len('"embedding":') for m in range(len(text)) if text.startswith('"embedding":', m))]


def test_requests_that_come_while_one_is_under_way_leave_as_one(world):
    scene = Scene(world, hold=True, limit=1)
    answers = merged(scene, [{'model': 'm', 'input': f'text {i}'} for i in range(5)])
    assert scene.arrays.sizes() == [1, 5]
    for i, answer in enumerate(answers):
        body = json.loads(answer.body)
        assert answer.fields['x-sluice-batch'] == '5; requests=5'
        assert answer.fields['x-backend'] == 'it'
        assert [d['index'] for d in body['data']] == [0]
        assert embeddings(answer) == [vector_of(f'text {i}')]
        assert body['usage'] == {'prompt_tokens': 2, 'completion_tokens': 0, 'total_tokens': 2}
    ids = {a.fields['x-request-id'] for a in answers}
    assert len(ids) == 5 and 'backends' not in ids
    scene.settle()
    assert scene.value('sluice_batch_requests_total', how='merged') == 5
    assert scene.value('sluice_batch_requests_total', how='alone') == 1
    assert scene.value('sluice_batch_items_sum') == 6
    assert scene.value('sluice_batch_items_count') == 2


def test_a_request_without_company_is_sent_and_answered_as_its_own_bytes(world):
    scene = Scene(world)
    text = '{ "input" : ["a",\n"b"], "model":"m", "x": 1.0 }'
    answer = Asking(scene.gateway, text).response()
    assert scene.backend.requests[0].body == text.encode()
    assert scene.backend.requests[0].fields.get('accept-encoding') is None
    assert answer.fields['x-request-id'] == 'backends'
    assert 'x-sluice-batch' not in answer.fields
    assert embeddings(answer) == [vector_of('a'), vector_of('b')]
    scene.settle()


@pytest.mark.parametrize('workers', [1, 2])
def test_lists_and_single_texts_of_many_clients_get_what_they_would_have_got_alone(world, workers):
    scene = Scene(world, workers=workers, limit=2)
    apart = Scene(world, workers=workers, enabled=False)
    bodies = [{'model': 'm', 'input': [f'{i} of', f'{i} two words'] if i % 3 else f'only {i}'} for i in range(60)]
    alone = [Asking(apart.gateway, body).response() for body in bodies]
    asking = [Asking(scene.gateway, body) for body in bodies]
    answers = [a.response() for a in asking]
    for one, other in zip(answers, alone):
        assert embeddings(one) == embeddings(other)
        assert [d['index'] for d in json.loads(one.body)['data']] == [d['index'] for d in json.loads(other.body)['data']]
    total = sum(json.loads(a.body)['usage']['prompt_tokens'] for a in answers)
    assert total == sum(json.loads(a.body)['usage']['prompt_tokens'] for a in alone)
    assert len(scene.arrays.calls) < 60
    assert scene.value('sluice_batch_requests_total', how='merged') > 0
    scene.settle()


@pytest.mark.parametrize('workers', [1, 2])
def test_a_bad_item_gets_the_backends_own_error_and_the_others_their_answers(world, workers):
    scene = Scene(world, hold=True, workers=workers, limit=1)
    texts = [f'text {i}' for i in range(3)] + ['bad'] + [f'more {i}' for i in range(4)]
    answers = merged(scene, [{'model': 'm', 'input': t} for t in texts])
    for text, answer in zip(texts, answers):
        if text == 'bad':
            assert answer.status == 400
            assert json.loads(answer.body)['error']['message'] == 'item 0 is bad'
            assert answer.fields['x-why'] == 'bad'
        else:
            assert embeddings(answer) == [vector_of(text)]
    assert len(scene.arrays.calls) <= 2 + 2 * 3
    assert scene.value('sluice_batch_retries_total', why='refused') >= 2
    scene.settle()


def test_one_who_leaves_does_not_cancel_the_others(world):
    scene = Scene(world, hold=True, limit=1)
    first = scene.hold_one()
    asking = [scene.ask(f'text {i}') for i in range(4)]
    scene.wait_waiting(4)
    asking[1].client.close()
    scene.wait_waiting(3)
    scene.arrays.let_go()
    first.response()
    for i in (0, 2, 3):
        answer = asking[i].response()
        assert embeddings(answer) == [vector_of(f'text {i}')]
        assert answer.fields['x-sluice-batch'] == '3; requests=3'
    scene.settle()


@pytest.mark.parametrize('workers', [1, 2])
def test_when_all_have_left_the_call_is_canceled(world, workers):
    scene = Scene(world, hold=True, workers=workers, limit=1)
    first = scene.hold_one()
    asking = [scene.ask(f'text {i}') for i in range(4)]
    scene.wait_waiting(4)
    scene.arrays.let_go(1)
    first.response()
    wait_until(lambda: scene.arrays.sizes() == [1, 4], what='the merged call at the backend')
    for one in asking[:3]:
        one.client.close()
    time.sleep(0.1)
    assert scene.value('sluice_batch_calls') == 1, 'one of them still waits'
    asking[3].client.close()
    wait_until(lambda: scene.value('sluice_batch_calls') == 0, what='the call is canceled')
    assert scene.value('sluice_batch_canceled_total') == 1
    assert scene.value('sluice_upstream_cancels_total') >= 1
    scene.arrays.let_go()
    scene.settle()
    assert scene.ask('still here').response().status == 200
