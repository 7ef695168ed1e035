"""Admission: how many requests a backend gets at a time, who goes first, and what those are told who do not."""

import itertools
import json
import threading
import time

import pytest
from backend import OK, keep_answering
from programs import http_route, inference_route
from rawhttp import Client, get, post, wait_until

CHAT = '/v1/chat/completions'


class Holding:
    """A backend that answers a request only when the test lets it, in the order in which it was let. `order`: what has
    come, by its X-Name."""

    def __init__(self, answer=OK):
        self.answer, self.order, self.waiting = answer, [], {}
        self.lock = threading.Lock()

    def script(self, peer):
        while True:
            request = peer.request()
            if request is None:
                return
            name = request.fields.get('x-name', request.target)
            go = threading.Event()
            with self.lock:
                self.order.append(name)
                self.waiting[name] = (go, peer)
            assert go.wait(20), f'{name} was never let go'
            answer = self.answer(request) if callable(self.answer) else self.answer
            if answer is None:
                return
            peer.send(answer)

    def let_go(self, name):
        with self.lock:
            go, _ = self.waiting.pop(name)
        go.set()

    def wait_for(self, *names):
        wait_until(lambda: set(names) <= set(self.order), what=f'{names} at the backend, where there is {self.order}')


class Asking:
    """A client with one request under way."""

    def __init__(self, gateway, name, kind='http', fields='', body=None):
        self.name, self.answer = name, None
        self.client = Client(gateway.address)
        if kind == 'http':
            self.client.send(f'GET /{name} HTTP/1.1\r\nHost: t\r\nX-Name: {name}\r\n{fields}\r\n')
        else:
            body = json.dumps({'model': 'm', 'messages': [], **(body or {})})
            self.client.send(f'POST {CHAT} HTTP/1.1\r\nHost: t\r\nX-Name: {name}\r\nContent-Type: application/json\r\n'
                             f'Content-Length: {len(body)}\r\n{fields}\r\n{body}')

    def response(self):
        return self.client.response()


def route_of(kind, **more):
    return {**(http_route() if kind == 'http' else inference_route()), **more}


def told_to_come_back(response):
    """The reason, of an answer that says all that an SDK obeys: it looks at the first of these, else at the second."""
    ms, seconds = int(response.fields['retry-after-ms']), int(response.fields['retry-after'])
    assert 0 < ms <= 60_000 and seconds == -(-ms // 1000)
    assert response.fields['x-should-retry'] == 'true'
    return response.fields['x-sluice-reason']


class Scene:
    def __init__(self, world, kind='http', workers=1, answer=OK, routes=None, tenants=None, route=None, **scheduling):
        self.world, self.kind = world, kind
        self.holding = Holding(answer)
        self.backend = world.backend(self.holding.script)
        scheduling = {'limiter': 'fixed', 'concurrency': 1, **scheduling}
        self.gateway = world.gateway(
            routes or [route_of(kind, **(route or {}))], endpoints=[self.backend], workers=workers,
            upstream={'scheduling': scheduling}, tenants=tenants)
        self.asking = {}

    def ask(self, name, fields='', **body):
        """Sends a request; they arrive in the order of the calls."""
        self.asking[name] = Asking(self.gateway, name, self.kind, fields, body)
        return self.asking[name]

    def ask_in_turn(self, *names, fields=''):
        for name in names:
            before = self.active()
            self.ask(name, fields)
            wait_until(lambda: self.active() == before + 1, what=f'{name} is under way')

    def active(self):
        return self.gateway.metrics().value('sluice_active_requests')

    def outstanding(self):
        return self.gateway.metrics().value('sluice_sched_grants_outstanding')

    def finish(self, *names):
        """Lets each go in turn, and gives the answers' statuses."""
        statuses = []
        for name in names:
            self.holding.wait_for(name)
            self.holding.let_go(name)
            statuses.append(self.asking[name].response().status)
        return statuses


@pytest.fixture(params=['http', 'inference'])
def kind(request):
    return request.param


@pytest.fixture(params=[1, 2])
def workers(request):
    return request.param


def test_a_fixed_limit_is_kept_and_those_beyond_it_wait_their_turn(world, kind, workers):
    scene = Scene(world, kind, workers, concurrency=2)
    scene.ask_in_turn('a', 'b', 'c', 'd')
    scene.holding.wait_for('a', 'b')
    time.sleep(0.1)
    assert sorted(scene.holding.order) == ['a', 'b']
    assert scene.outstanding() == 2
    assert scene.finish('a', 'c', 'b', 'd') == [200] * 4
    wait_until(lambda: scene.outstanding() == 0, what='no grant is outstanding')


def test_upper_classes_go_first(world, workers):
    tenants = [{'name': f'class{c}', 'key': f'key{c}', 'class': c} for c in range(4)]
    scene = Scene(world, workers=workers, tenants=tenants, holdback_percent=0)
    scene.ask_in_turn('first')
    scene.holding.wait_for('first')
    for c in (3, 1, 2, 0):
        scene.ask_in_turn(f'of{c}', fields=f'Authorization: Bearer key{c}\r\n')
    assert scene.finish('first', 'of0', 'of1', 'of2', 'of3') == [200] * 5
    assert scene.holding.order == ['first', 'of0', 'of1', 'of2', 'of3']


def test_a_header_may_tell_whose_a_request_is_and_gives_the_class(world, workers):
    tenants = [{'name': 'gold', 'value': 'g', 'class': 0}, {'name': 'iron', 'value': 'i', 'class': 3},
               {'name': 'keyed', 'key': 'k', 'class': 1}]
    scene = Scene(world, workers=workers, tenants=tenants, route={'tenant': ['header:X-Team', 'address']}, holdback_percent=0)
    scene.ask_in_turn('first')
    scene.holding.wait_for('first')
    for name, fields in (('iron', 'X-Team: i\r\n'), ('stranger', 'X-Team: k\r\n'),
                         ('keyed', 'X-Team: x\r\nX-API-Key: k\r\n'), ('gold', 'X-Team: g\r\n')):
        scene.ask_in_turn(name, fields=fields)
    assert scene.finish('first', 'gold', 'keyed', 'stranger', 'iron') == [200] * 5
    assert scene.holding.order == ['first', 'gold', 'keyed', 'stranger', 'iron']


def test_who_cannot_be_kept_in_the_queue_is_told_so(world, kind, workers):
    scene = Scene(world, kind, workers, queue={'requests_max': 1})
    scene.ask_in_turn('a', 'b')
    scene.holding.wait_for('a')
    response = scene.ask('c').response()
    assert response.status == 503
    assert told_to_come_back(response) == 'queue_full'
    if kind == 'inference':
        error = json.loads(response.body)['error']
        assert error['code'] == 'queue_full' and error['type'] == 'overloaded_error'
    else:
        assert b'too many requests are waiting' in response.body
    assert scene.gateway.metrics().value('errors_total', type='shed') == 1
    assert scene.finish('a', 'b') == [200, 200]


def test_a_deadline_that_passes_in_the_queue_is_503(world, kind, workers):
    scene = Scene(world, kind, workers, queue={'wait_max_ms': 300})
    scene.ask_in_turn('a')
    scene.holding.wait_for('a')
    began = time.monotonic()
    response = scene.ask('b').response()
    assert response.status == 503
    assert told_to_come_back(response) == 'late_dispatch'
    assert 0.2 < time.monotonic() - began < 2
    assert scene.finish('a') == [200]
    assert scene.holding.order == ['a']


def test_a_tenant_with_too_much_of_the_queue_gets_429_while_others_wait(world, kind, workers):
    scene = Scene(world, kind, workers, queue={'requests_max': 4, 'tenant_share_percent': 50})
    one, other = 'Authorization: Bearer one\r\n', 'Authorization: Bearer other\r\n'
    scene.ask_in_turn('first', 'a', 'b', fields=one)
    scene.holding.wait_for('first')
    scene.ask_in_turn('x', fields=other)
    response = scene.ask('c', one).response()
    assert response.status == 429
    assert told_to_come_back(response) == 'tenant_share'
    if kind == 'inference':
        assert json.loads(response.body)['error']['type'] == 'rate_limit_error'
    scene.ask_in_turn('y', fields=other)
    for name in ('first', 'a', 'b', 'x', 'y'):
        scene.asking[name].client.reset()


def test_a_client_that_leaves_while_it_is_queued_is_never_sent(world, kind, workers):
    scene = Scene(world, kind, workers)
    scene.ask_in_turn('a', 'b', 'c')
    scene.holding.wait_for('a')
    scene.asking['b'].client.reset()
    wait_until(lambda: scene.active() == 2, what='the gateway has seen it leave')
    assert scene.finish('a', 'c') == [200, 200]
    assert scene.holding.order == ['a', 'c']
    wait_until(lambda: scene.outstanding() == 0, what='no grant is outstanding')


def test_a_client_that_leaves_with_a_grant_makes_room(world, kind, workers):
    scene = Scene(world, kind, workers)
    scene.ask_in_turn('a', 'b')
    scene.holding.wait_for('a')
    scene.asking['a'].client.reset()
    assert scene.finish('b') == [200]
    wait_until(lambda: scene.outstanding() == 0, what='no grant is outstanding')
    scene.holding.let_go('a')


def test_what_is_queued_is_still_served_while_draining(world, kind, workers):
    scene = Scene(world, kind, workers)
    scene.ask_in_turn('a', 'b', 'c')
    scene.holding.wait_for('a')
    scene.gateway.signal()
    time.sleep(0.2)
    assert scene.finish('a', 'b', 'c') == [200] * 3
    assert scene.gateway.wait() == 0


def test_an_upstream_that_resets_gives_its_grant_back(world, kind, workers):
    scene = Scene(world, kind, workers, answer=lambda request: None)
    scene.ask_in_turn('a', 'b')
    scene.holding.wait_for('a')
    scene.holding.let_go('a')
    assert scene.asking['a'].response().status == 502
    scene.holding.wait_for('b')
    scene.holding.let_go('b')
    assert scene.asking['b'].response().status == 502
    wait_until(lambda: scene.outstanding() == 0, what='no grant is outstanding')


def test_a_backend_that_asks_for_a_pause_gets_one(world, kind, workers):
    status = {'http': b'503 Service Unavailable', 'inference': b'429 Too Many Requests'}[kind]
    answers = {'a': b'HTTP/1.1 ' + status + b'\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n'}
    scene = Scene(world, kind, workers, answer=lambda request: answers.get(request.fields.get('x-name'), OK))
    scene.ask_in_turn('a', 'b')
    scene.holding.wait_for('a')
    began = time.monotonic()
    scene.holding.let_go('a')
    assert scene.asking['a'].response().status == int(status[:3])
    assert scene.finish('b') == [200]
    assert 0.8 < time.monotonic() - began < 3


def test_what_an_ordinary_service_tells_one_client_that_asks_too_often_is_nobody_elses_matter(world, workers):
    busy = b'HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n'
    answers = {'a': busy}
    scene = Scene(world, 'http', workers, limiter='excess', concurrency=100,
                  answer=lambda request: answers.get(request.fields.get('x-name'), OK))
    scene.ask_in_turn('a')
    scene.holding.wait_for('a')
    scene.holding.let_go('a')
    assert scene.asking['a'].response().status == 429
    scene.ask_in_turn('b', 'c', 'd')
    for name in ('b', 'c', 'd'):
        scene.holding.wait_for(name)
    assert scene.finish('b', 'c', 'd') == [200] * 3


def test_a_429_for_one_key_pauses_nobody_else(world, workers):
    seen = []

    def answer(peer, request):
        seen.append(request.fields['authorization'])
        if seen[-1] == 'Bearer greedy':
            peer.answer('{}', status='429 Too Many Requests', fields='Retry-After: 30\r\n')
        else:
            peer.answer('{}')
    gateway = world.gateway([inference_route()], endpoints=[world.backend(keep_answering(answer))], workers=workers)

    def ask_as(key):
        return post(gateway.address, CHAT, '{"model": "m", "messages": []}',
                    fields=f'Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n'
                           'x-request-timeout-ms: 5000\r\n')
    for _ in range(8):
        assert ask_as('modest').status == 200
    began = time.monotonic()
    response = ask_as('greedy')
    while 'x-sluice-reason' not in response.fields:  # each worker finds out for itself
        assert response.status == 429 and seen.count('Bearer greedy') <= workers
        assert ask_as('modest').status == 200
        response = ask_as('greedy')
    assert response.status == 429 and told_to_come_back(response) == 'client_paused'
    assert 20 <= int(response.fields['retry-after']) <= 30
    for _ in range(8):
        assert ask_as('modest').status == 200
    assert time.monotonic() - began < 5
    wait_until(lambda: gateway.metrics().value('sluice_sched_shed_total', reason='client_paused') == 1,
               what='it is counted')


def test_who_is_asked_for_a_pause_waits_for_its_end(world):
    answers = iter(['429 Too Many Requests'])
    seen = []

    def answer(peer, request):
        seen.append(request.fields['authorization'])
        peer.answer('{}', status='200 OK' if seen[-1] == 'Bearer b' else next(answers, '200 OK'),
                    fields='Retry-After: 1\r\n')
    gateway = world.gateway([inference_route()], endpoints=[world.backend(keep_answering(answer))])

    def ask_as(key):
        return post(gateway.address, CHAT, '{"model": "m", "messages": []}',
                    fields=f'Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n').status
    began = time.monotonic()
    assert ask_as('a') == 429
    waiting = threading.Thread(target=lambda: seen.append(ask_as('a')))
    waiting.start()
    wait_until(lambda: gateway.metrics().value('sluice_sched_client_paused') == 1, what='it waits')
    assert json.loads(get(gateway.admin, '/api/performance').body)['requests']['client_paused'] == 1
    assert ask_as('b') == 200
    assert time.monotonic() - began < 0.8
    waiting.join(10)
    assert seen == ['Bearer a', 'Bearer b', 'Bearer a', 200]
    assert 0.8 < time.monotonic() - began < 3
    assert gateway.metrics().value('sluice_sched_client_paused') == 0


def test_who_cannot_wait_for_the_backends_pause_is_told_of_it(world, kind, workers):
    busy = b'HTTP/1.1 503 Service Unavailable\r\nRetry-After: 20\r\nContent-Length: 0\r\n\r\n'
    scene = Scene(world, kind, workers, answer=busy, queue={'wait_max_ms': 2000})
    scene.ask_in_turn('a')
    scene.holding.wait_for('a')
    scene.holding.let_go('a')
    assert scene.asking['a'].response().status == 503
    response = scene.ask('b').response()
    assert response.status == 503
    assert told_to_come_back(response) == 'backend_busy'
    assert 15 <= int(response.fields['retry-after']) <= 20


def test_observing_holds_nothing_back(world, kind, workers):
    scene = Scene(world, kind, workers, observe_only=True)
    scene.ask_in_turn('a', 'b', 'c')
    scene.holding.wait_for('a', 'b', 'c')
    assert scene.finish('c', 'b', 'a') == [200] * 3


def test_observing_says_what_would_have_been_done(world, workers):
    scene = Scene(world, 'inference', workers, observe_only=True)
    for name in ('a', 'b', 'c', 'd'):
        before = scene.active()
        scene.ask(name, fields='x-request-timeout-ms: 1\r\n' if name == 'd' else '', model='m\n=')
        wait_until(lambda: scene.active() == before + 1, what=f'{name} is under way')
        time.sleep(0.05)  # at such a pace, who would be behind two others would miss a deadline of a millisecond
    scene.holding.wait_for('a', 'b', 'c', 'd')

    def would(what):
        return scene.gateway.metrics().value('sluice_sched_would_have_total', what=what)
    wait_until(lambda: would('wait') == 3, what='three that would have waited')
    assert would('shed') == 1
    scene.gateway.wait_line('scheduling only observes: .* upstream=backend model=m%0A= would_have_waited=3 '
                            'would_have_shed=1 of=4 seconds=10$', seconds=15)
    assert scene.finish('a', 'b', 'c', 'd') == [200] * 4
    time.sleep(1)
    scene.ask('e')
    assert scene.finish('e') == [200]
    assert sum('scheduling only observes' in line for line in scene.gateway.lines) == 1


def test_nothing_is_held_back_without_scheduling(world, kind, workers):
    scene = Scene(world, kind, workers, enabled=False)
    scene.ask_in_turn('a', 'b', 'c')
    scene.holding.wait_for('a', 'b', 'c')
    assert scene.finish('c', 'b', 'a') == [200] * 3
    assert scene.outstanding() == 0


def test_models_do_not_wait_for_each_other(world, workers):
    scene = Scene(world, 'inference', workers)
    scene.ask('a', model='one')
    scene.ask('b', model='other')
    scene.holding.wait_for('a', 'b')
    assert scene.finish('b', 'a') == [200, 200]


LIST = '{"object": "list", "data": [{"id": "m", "object": "model"}]}'


def answer_of(status, body, fields='Content-Type: application/json\r\n'):
    return f'HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n{body}'.encode()


class Engine:
    """A backend that serves what `served` says of a model's name, a little later. `models`: its list, or None."""

    def __init__(self, world, served, models=None):
        self.served, self.models = served, models
        self.lock = threading.Lock()
        self.now = self.most = self.listed = 0
        self.backend = world.backend(self.script)

    def script(self, peer):
        while (request := peer.request()) is not None:
            if request.target == '/v1/models':
                self.listed += 1
                peer.send(answer_of('200 OK', self.models) if self.models else answer_of('404 Not Found', '{}'))
            elif not self.served(json.loads(request.body)['model']):
                peer.send(answer_of('404 Not Found', '{}'))
            else:
                with self.lock:
                    self.now += 1
                    self.most = max(self.most, self.now)
                time.sleep(0.1)
                with self.lock:
                    self.now -= 1
                peer.send(OK)


def chat_of(gateway, model):
    body = json.dumps({'model': model, 'messages': []})
    with Client(gateway.address) as client:
        return client.request(f'POST {CHAT} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n{body}',
                              method='POST').status


def all_at_once(gateway, *models):
    statuses = [None] * len(models)

    def ask(i):
        statuses[i] = chat_of(gateway, models[i])
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return statuses


def limited(world, engine, workers):
    return world.gateway([inference_route()], endpoints=[engine.backend], workers=workers,
                         upstream={'scheduling': {'limiter': 'fixed', 'concurrency': 2, 'holdback_percent': 0}})


def test_who_makes_names_up_gets_no_more_than_others_of_an_engine_that_takes_any(world, workers):
    engine = Engine(world, lambda model: True, LIST)
    gateway = limited(world, engine, workers)
    end = time.monotonic() + 20
    names = itertools.count()
    while engine.listed < workers:  # until each has heard of more than a few, and has asked what there is
        assert time.monotonic() < end
        assert all_at_once(gateway, 'm', *[f'x{next(names)}' for _ in range(9)]) == [200] * 10
    engine.most = 0
    assert all_at_once(gateway, *[f'made-up-{i}' for i in range(12)]) == [200] * 12
    assert engine.most == 2, 'all go as the one model that there is'


def test_names_that_an_engine_does_not_know_leave_nothing_behind(world, workers):
    engine = Engine(world, lambda model: model in ('m', 'alias'))
    gateway = limited(world, engine, workers)
    assert chat_of(gateway, 'm') == 200
    for i in range(100):
        assert chat_of(gateway, f'made-up-{i}') == 404
    assert [chat_of(gateway, 'alias') for _ in range(2 * workers)] == [200] * 2 * workers
    wait_until(lambda: gateway.metrics().value('sluice_sched_granted_total', model='alias') >= 1, what='the alias is one')
    time.sleep(1.2)
    assert len(gateway.metrics().labels('sluice_sched_limit', 'model')) <= 3
    assert engine.listed <= 2 * workers


def test_an_engine_with_a_few_models_is_not_asked_for_its_list(world, workers):
    engine = Engine(world, lambda model: True, LIST)
    gateway = limited(world, engine, workers)
    assert all_at_once(gateway, *['any', 'other'] * 8) == [200] * 16
    assert engine.listed == 0 and 2 <= engine.most <= 4


def test_a_streamed_body_waits_with_its_request(world, workers):
    scene = Scene(world, 'http', workers)
    scene.ask_in_turn('a')
    scene.holding.wait_for('a')
    with Client(scene.gateway.address) as client:
        client.send(b'POST /b HTTP/1.1\r\nHost: t\r\nX-Name: b\r\nContent-Length: 300000\r\n\r\n')
        sender = threading.Thread(target=client.send, args=(b'x' * 300000,))
        sender.start()
        time.sleep(0.1)
        assert scene.holding.order == ['a']
        assert scene.finish('a') == [200]
        scene.holding.wait_for('b')
        scene.holding.let_go('b')
        assert client.response().status == 200
        sender.join()


# ---- with the cache

def cached_route(**cache):
    route = http_route()
    route['http']['cache'] = {'enabled': True, **cache}
    return route


def test_a_stale_answer_serves_who_would_be_turned_away(world, workers):
    def answer(request):
        return (b'HTTP/1.1 200 OK\r\nCache-Control: max-age=1, stale-if-error=600\r\nContent-Length: 3\r\n\r\nold')
    scene = Scene(world, 'http', workers, answer=answer, routes=[cached_route()], queue={'requests_max': 1})
    scene.ask('page')
    assert scene.finish('page') == [200]
    scene.holding.order.clear()
    time.sleep(1.2)
    scene.ask_in_turn('slow', 'queued')
    scene.holding.wait_for('slow')
    response = scene.ask('page').response()
    assert (response.status, response.body) == (200, b'old')
    assert 'hit' in response.fields['cache-status']
    assert scene.finish('slow', 'queued') == [200, 200]


def test_who_shares_a_fetch_is_turned_away_with_it_and_nothing_is_stored(world, workers):
    scene = Scene(world, 'http', workers, routes=[cached_route(ttl_ms=60000)], queue={'wait_max_ms': 400})
    scene.ask_in_turn('slow')
    scene.holding.wait_for('slow')
    both = [Asking(scene.gateway, 'page') for _ in range(2)]
    for asking in both:
        response = asking.response()
        assert response.status == 503 and response.fields['x-sluice-reason'].startswith('late')
    assert scene.finish('slow') == [200]
    scene.ask('page')
    assert scene.finish('page') == [200]


# ---- many at once

def test_however_many_ask_on_however_many_workers_the_limit_is_kept(world, kind, workers):
    limit, lock = 6, threading.Lock()
    now = {'in': 0, 'most': 0, 'all': 0}

    def script(peer):
        while True:
            request = peer.request()
            if request is None:
                return
            if request.target.endswith('/models'):
                peer.send(OK)
                continue
            with lock:
                now['in'] += 1
                now['all'] += 1
                now['most'] = max(now['most'], now['in'])
            time.sleep(0.002)
            with lock:
                now['in'] -= 1
            peer.send(OK)

    backend = world.backend(script)
    scheduling = {'limiter': 'fixed', 'concurrency': limit, 'holdback_percent': 0}
    gateway = world.gateway([route_of(kind)], endpoints=[backend], workers=workers, upstream={'scheduling': scheduling})

    def client(number):
        for turn in range(15):
            with Client(gateway.address) as it:
                # Now few, within what is lent, now more than the limit.
                for _ in range(3):
                    if kind == 'http':
                        response = it.request('GET /x HTTP/1.1\r\nHost: t\r\n\r\n')
                    else:
                        body = '{"model": "m", "messages": []}'
                        response = it.request(f'POST {CHAT} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n{body}',
                                              method='POST')
                    assert response.status == 200
            time.sleep(0.01 * ((number + turn) % 4))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert now['all'] == 16 * 15 * 3
    assert now['most'] <= limit
    wait_until(lambda: gateway.metrics().value('sluice_sched_grants_outstanding') == 0, what='no grant is outstanding')


def test_event_streams_of_a_plain_service_hold_no_slot(world, workers):
    head = b'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n: hi\n\n\n\r\n'

    def script(peer):
        if peer.request() is not None:
            peer.send(head)
            peer.wait_end()

    backend = world.backend(script)
    gateway = world.gateway(endpoints=[backend], workers=workers,
                            upstream={'scheduling': {'limiter': 'fixed', 'concurrency': 2}})
    clients = [Client(gateway.address) for _ in range(8)]
    for client in clients:
        client.send('GET / HTTP/1.1\r\nHost: t\r\n\r\n')
        assert client.head().status == 200
    assert gateway.metrics().value('sluice_sched_grants_outstanding') == 0
    for client in clients:
        client.reset()
