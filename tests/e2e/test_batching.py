"""Batching: requests to array APIs that are under way at the same time leave as one, and come apart again."""

import base64
import json
import struct
import threading
import time

import pytest
from programs import inference_route
from rawhttp import Client, get, post, wait_until
from test_inference import openai  # noqa: F401  pylint: disable=unused-import

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


# ---- when the call fails ----


def fail_with(status, fields=''):
    def breaks(peer, items):
        if len(items) > 1:
            peer.answer('{"error":{"message":"no"}}', status=status, fields=JSON + fields)
        return len(items) > 1
    return breaks


@pytest.mark.parametrize('status', ['500 Internal Server Error', '401 Unauthorized', '404 Not Found',
                                    '429 Too Many Requests', '503 Service Unavailable'])
def test_what_the_backend_says_of_the_call_is_said_to_all(world, status):
    scene = Scene(world, hold=True, limit=1)
    scene.arrays.breaks = fail_with(status, 'X-Why: it\r\nETag: "all"\r\n')
    answers = merged(scene, [{'model': 'm', 'input': f'text {i}'} for i in range(4)])
    for answer in answers:
        assert (answer.status, answer.body) == (int(status[:3]), b'{"error":{"message":"no"}}')
        assert answer.fields['x-why'] == 'it'
    assert scene.arrays.sizes() == [1, 4], 'it is not tried again'
    scene.settle()


def test_a_connection_that_breaks_is_a_502_for_all(world):
    def breaks(peer, items):
        if len(items) > 1:
            peer.reset()
            raise ConnectionError('as told')
    scene = Scene(world, hold=True, limit=1)
    scene.arrays.breaks = breaks
    for answer in merged(scene, [{'model': 'm', 'input': f'text {i}'} for i in range(4)]):
        assert answer.status == 502
        assert json.loads(answer.body)['error']['code'] == 'upstream_closed'
    scene.settle()


def test_a_backend_that_takes_too_long_is_a_504_for_all(world):
    def breaks(_peer, items):
        if len(items) > 1:
            time.sleep(0.8)
    scene = Scene(world, hold=True, limit=1)
    scene.gateway.stop()
    scene.gateway = world.gateway(scene.gateway.config['routes'], endpoints=[scene.backend], upstream={
        'scheduling': {'limiter': 'fixed', 'concurrency': 1}, 'first_byte_timeout_ms': 400})
    scene.arrays.breaks = breaks
    for answer in merged(scene, [{'model': 'm', 'input': f'text {i}'} for i in range(3)]):
        assert answer.status == 504
    scene.settle()


def spoil(text):
    def breaks(peer, items):
        if len(items) > 1:
            peer.answer(text, fields=JSON)
        return len(items) > 1
    return breaks


@pytest.mark.parametrize('text', [
    'no JSON', '{"data":[]}', '{"data":[{"embedding":[1],"index":0},{"embedding":[1],"index":0}]}', '[]', '',
    '{"data":[{"embedding":[1],"index":0},{"embedding":[1],"index":7},{"embedding":[1],"index":1}]}'])
def test_an_answer_that_cannot_be_taken_apart_sends_its_requests_on_their_own(world, text):
    scene = Scene(world, hold=True, limit=1)
    scene.arrays.breaks = spoil(text)
    answers = merged(scene, [{'model': 'm', 'input': f'text {i}'} for i in range(3)])
    for i, answer in enumerate(answers):
        assert embeddings(answer) == [vector_of(f'text {i}')]
    assert scene.arrays.sizes() == [1, 3, 1, 1, 1]
    assert scene.value('sluice_batch_retries_total', why='malformed') == 1
    asking = [scene.ask(f'later {i}') for i in range(3)]
    assert all(a.response().status == 200 for a in asking)
    assert scene.arrays.sizes()[5:] == [1, 1, 1], 'nothing of this model is merged for some time'
    scene.settle()


def test_a_coded_answer_sends_its_requests_on_their_own(world):
    def breaks(peer, items):
        if len(items) > 1:
            peer.answer(b'\x1f\x8b...', fields=JSON + 'Content-Encoding: gzip\r\n')
        return len(items) > 1
    scene = Scene(world, hold=True, limit=1)
    scene.arrays.breaks = breaks
    answers = merged(scene, [{'model': 'm', 'input': f'text {i}'} for i in range(2)])
    assert [embeddings(a) for a in answers] == [[vector_of(f'text {i}')] for i in range(2)]
    assert scene.arrays.heads[1].fields['accept-encoding'] == 'identity'
    scene.settle()


def test_a_part_whose_answer_is_malformed_is_a_502_with_the_reason(world):
    scene = Scene(world, items_max=2)
    scene.arrays.breaks = spoil('{"data":[]}')
    answer = scene.ask(['a', 'b', 'c']).response()
    assert answer.status == 502
    assert json.loads(answer.body)['error']['code'] == 'upstream_protocol_error'
    scene.settle()


@pytest.mark.parametrize('workers', [1, 2])
def test_who_has_waited_for_as_long_as_he_can_is_turned_away(world, workers):
    scene = Scene(world, hold=True, limit=1, workers=workers)
    first = scene.hold_one()
    late = [scene.ask(f'text {i}', fields='x-request-timeout-ms: 300\r\n') for i in range(3)]
    patient = scene.ask('in no hurry')
    for one in late:
        answer = one.response()
        assert answer.status == 503, answer.body
        assert answer.fields['x-sluice-reason'] == 'late_dispatch'
        assert answer.fields['retry-after'] == '1'
    scene.arrays.let_go()
    assert first.response().status == patient.response().status == 200
    assert scene.arrays.sizes() == [1, 1]
    assert scene.value('sluice_batch_requests_total', how='late') == 3
    scene.settle()


def test_when_a_call_is_turned_away_so_are_its_requests(world):
    scene = Scene(world, hold=True, items_max=2, scheduling={'limiter': 'fixed', 'concurrency': 1,
                                                             'queue': {'requests_max': 1}})
    scene.arrays.breaks = lambda peer, items: not items and peer.answer('{}') is None
    chats = [Asking(scene.gateway, {'model': 'm', 'messages': [], 'input': []}, '/v1/chat/completions')
             for _ in range(2)]
    wait_until(lambda: scene.value('sluice_sched_queued') == 1 and len(scene.arrays.calls) == 1)
    answer = scene.ask(['a', 'b', 'c']).response()
    assert answer.status == 503
    assert answer.fields['x-sluice-reason'] == 'queue_full'
    scene.arrays.let_go()
    assert [chat.response().status for chat in chats] == [200, 200]
    scene.settle()


# ---- lists over a budget ----


@pytest.mark.parametrize('workers', [1, 2])
def test_a_list_over_budget_is_sent_in_parts_and_put_together_in_order(world, workers):
    scene = Scene(world, workers=workers, items_max=3)
    texts = [f'text {i}' for i in range(11)]
    answer = scene.ask(texts).response()
    assert embeddings(answer) == [vector_of(t) for t in texts]
    body = json.loads(answer.body)
    assert [d['index'] for d in body['data']] == list(range(11))
    assert body['usage'] == {'prompt_tokens': 22, 'completion_tokens': 0, 'total_tokens': 22}
    assert max(scene.arrays.sizes()) <= 3 and sum(scene.arrays.sizes()) == 11
    assert scene.value('sluice_batch_requests_total', how='parts') == 4
    scene.settle()


def test_an_error_of_one_part_is_the_answer_to_the_list(world):
    scene = Scene(world, items_max=2, limit=1)
    answer = scene.ask(['a', 'b', 'c', 'bad', 'e']).response()
    assert answer.status == 400
    assert json.loads(answer.body)['error']['message'] == 'item 1 is bad'
    scene.settle()


def test_calls_keep_to_the_budget_of_bytes(world):
    scene = Scene(world, hold=True, limit=1, body_bytes_max=1024)
    answers = merged(scene, [{'model': 'm', 'input': 'x' * 300 + str(i)} for i in range(6)])
    assert [embeddings(a) for a in answers] == [[vector_of('x' * 300 + str(i))] for i in range(6)]
    assert max(scene.arrays.sizes()) == 3
    whole = scene.ask('y' * 2000).response()
    assert embeddings(whole) == [vector_of('y' * 2000)], 'an item over it goes as it came'
    scene.settle()


def test_calls_keep_to_the_budget_of_tokens(world):
    scene = Scene(world, hold=True, limit=1, tokens_max=200)
    merged(scene, [{'model': 'm', 'input': 'x' * 300 + str(i)} for i in range(6)])
    assert max(scene.arrays.sizes()) == 2
    scene.settle()


# ---- other APIs ----


def test_completions_with_lists_of_prompts_merge(world):
    scene = Scene(world, hold=True, limit=1)
    first = scene.ask(None, '/v1/completions', prompt='the first', max_tokens=4)
    wait_until(lambda: len(scene.arrays.calls) == 1)
    asking = [scene.ask(None, '/v1/completions', prompt=[f'a {i}', f'b {i}'], max_tokens=4) for i in range(3)]
    scene.wait_waiting(6)
    scene.arrays.let_go()
    first.response()
    for i, one in enumerate(asking):
        body = json.loads(one.response().body)
        assert [(c['index'], c['text']) for c in body['choices']] == [(0, f're: a {i}'), (1, f're: b {i}')]
        assert body['usage'] == {'prompt_tokens': 4, 'completion_tokens': 2, 'total_tokens': 6}
    assert scene.arrays.sizes() == [1, 6]
    scene.settle()


def test_reranks_of_one_query_merge_and_each_keeps_its_order_and_its_top_n(world):
    scene = Scene(world, hold=True, limit=1)
    documents = ['w ' * n for n in (5, 2, 9)]
    bodies = [{'model': 'm', 'query': 'q', 'documents': documents, 'top_n': 2}, {'model': 'm', 'query': 'q',
              'documents': ['w ' * n for n in (7, 1)]}, {'model': 'm', 'query': 'other', 'documents': documents}]
    first = Asking(scene.gateway, bodies[1], '/v1/rerank')
    wait_until(lambda: len(scene.arrays.calls) == 1)
    asking = [Asking(scene.gateway, b, '/v1/rerank') for b in bodies]
    wait_until(lambda: scene.value('sluice_batch_waiting_items') == 8)
    scene.arrays.let_go()
    first.response()
    found = [json.loads(a.response().body)['results'] for a in asking]
    assert [[r['index'] for r in results] for results in found] == [[1, 0], [1, 0], [1, 0, 2]]
    assert sorted(scene.arrays.sizes()) == [2, 3, 5]
    scene.settle()


def test_a_configured_json_array_merges(world):
    arrays = [{'path': '/v1/classify', 'items': 'things', 'results': 'labels'}]
    scene = Scene(world, hold=True, limit=1, arrays=arrays, more={'results': 'labels'})
    answers_of = [{'model': 'm', 'things': [i, {'k': f'{i}'}]} for i in range(3)]
    first = Asking(scene.gateway, {'model': 'm', 'things': ['x']}, '/v1/classify')
    wait_until(lambda: len(scene.arrays.calls) == 1)
    asking = [Asking(scene.gateway, b, '/v1/classify') for b in answers_of]
    scene.wait_waiting(6)
    scene.arrays.let_go()
    first.response()
    for i, one in enumerate(asking):
        answer = one.response()
        assert [label['thing'] for label in json.loads(answer.body)['labels']] == [i, {'k': f'{i}'}]
        assert answer.body.count(b'"n":1.50') == 2
    assert scene.arrays.sizes() == [1, 6]
    scene.settle()


# ---- what does not merge ----


def test_requests_that_differ_in_what_shapes_the_answer_are_kept_apart(world):
    scene = Scene(world, hold=True, limit=1)
    first = scene.hold_one()
    key = 'Authorization: Bearer {}\r\n'
    asking = [scene.ask('a'), scene.ask('b'), scene.ask('c', dimensions=8), scene.ask('d', encoding_format='base64'),
              scene.ask('e', fields=key.format('one')), scene.ask('f', fields=key.format('two')),
              scene.ask('g', fields=key.format('one')), scene.ask('h', EMBEDDINGS + '?x=1'),
              scene.ask('i', fields='X-Unknown: 1\r\n'), scene.ask([1, 2, 3]),
              scene.ask('k', fields='User-Agent: other\r\nTraceparent: 00-1-2-3\r\nX-Stainless-Lang: js\r\n')]
    scene.wait_waiting(11)
    scene.arrays.let_go()
    first.response()
    for one in asking:
        assert one.response().status == 200
    assert sorted(scene.arrays.sizes()) == [1, 1, 1, 1, 1, 1, 1, 2, 3]
    keys = [(h.fields.get('authorization'), len(scene.arrays.items_of(c)))
            for h, c in zip(scene.arrays.heads, scene.arrays.calls) if 'authorization' in h.fields]
    assert sorted(keys) == [('Bearer one', 2), ('Bearer two', 1)]
    scene.settle()


@pytest.mark.parametrize('path,body,fields', [
    (EMBEDDINGS, '{"model":"m","input":"a","stream":true}', ''),
    (EMBEDDINGS, '{"model":"m","input":["a",1]}', ''),
    (EMBEDDINGS, '{"model":"m","input":"a"', ''),
    (EMBEDDINGS, '{"model":"m"}', ''),
    (EMBEDDINGS, 'not JSON', ''),
    (EMBEDDINGS, '{"model":"m","input":"a"}', 'Content-Encoding: gzip\r\n'),
    ('/v1/completions', '{"model":"m","prompt":"a","n":2}', ''),
    ('/v1/completions', '{"model":"m","prompt":"a","stream":true}', ''),
    ('/v1/chat/completions', '{"model":"m","messages":[]}', ''),
    ('/v1/score', '{"model":"m","text_1":["a"],"text_2":["b"]}', ''),
])
def test_what_cannot_be_merged_passes_untouched(world, path, body, fields):
    scene = Scene(world)
    scene.backend.script = lambda peer: [peer.request(), peer.answer('as it came', fields='X-Request-Id: its\r\n')]
    answer = Asking(scene.gateway, body, path, fields).response()
    assert (answer.body, answer.fields['x-request-id']) == (b'as it came', 'its')
    assert scene.backend.requests[0].body == body.encode()
    assert scene.value('sluice_batch_items_count') == 0
    scene.settle()


def test_without_a_scheduler_requests_merge_too(world):
    scene = Scene(world, scheduling=False, workers=2)
    asking = [scene.ask(f'text {i}') for i in range(50)]
    for i, one in enumerate(asking):
        assert embeddings(one.response()) == [vector_of(f'text {i}')]
    scene.settle()


def test_each_model_has_its_own_calls(world):
    scene = Scene(world, hold=True, limit=1, workers=2)
    firsts = [scene.ask('first', model=m) for m in ('one', 'two')]
    wait_until(lambda: len(scene.arrays.calls) == 2)
    asking = [(m, i, scene.ask(f'{m} {i}', model=m)) for i in range(3) for m in ('one', 'two')]
    scene.wait_waiting(6)
    scene.arrays.let_go()
    for one in firsts:
        one.response()
    for model, i, one in asking:
        answer = one.response()
        assert embeddings(answer) == [vector_of(f'{model} {i}')]
        assert json.loads(answer.body)['model'] == model
    assert sorted(scene.arrays.sizes()) == [1, 1, 3, 3]
    scene.settle()


# ---- with the cache ----


@pytest.mark.parametrize('workers', [1, 2])
def test_merged_answers_are_stored_for_each_client_as_if_fetched_alone(world, workers):
    scene = Scene(world, hold=True, limit=1, workers=workers, cache=True)
    bodies = [{'model': 'm', 'input': f'text {i}'} for i in range(5)]
    answers = merged(scene, bodies)
    assert all(a.fields['cache-status'].startswith('sluice; fwd=uri-miss') for a in answers), answers[0].fields
    assert scene.arrays.sizes() == [1, 5]
    for body, answer in zip(bodies, answers):
        again = Asking(scene.gateway, body).response()
        assert again.fields['cache-status'].startswith('sluice; hit')
        assert again.body == answer.body
        assert 'x-sluice-batch' not in again.fields
    assert len(scene.arrays.calls) == 2, 'hits never come to the former'
    assert scene.value('sluice_batch_items_sum') == 6
    scene.settle()


@pytest.mark.parametrize('workers', [1, 2])
def test_equal_requests_are_one_item_of_a_merged_call(world, workers):
    scene = Scene(world, hold=True, limit=1, workers=workers, cache=True)
    first = scene.hold_one()
    asking = [scene.ask(f'text {i % 2}') for i in range(6)]
    scene.wait_waiting(2)
    wait_until(lambda: scene.value('sluice_active_requests') == 7)
    scene.arrays.let_go()
    first.response()
    for i, one in enumerate(asking):
        assert embeddings(one.response()) == [vector_of(f'text {i % 2}')]
    assert scene.arrays.sizes() == [1, 2]
    scene.settle()


def test_errors_of_merged_calls_are_not_stored(world):
    scene = Scene(world, hold=True, limit=1, cache=True)
    scene.arrays.breaks = fail_with('500 Internal Server Error')
    bodies = [{'model': 'm', 'input': f'text {i}'} for i in range(3)]
    assert [a.status for a in merged(scene, bodies)] == [500] * 3
    scene.arrays.breaks = None
    assert [Asking(scene.gateway, b).response().status for b in bodies] == [200] * 3
    scene.settle()


# ---- ends ----


def test_a_drain_lets_merged_calls_end(world):
    scene = Scene(world, hold=True, limit=1, workers=2)
    first = scene.hold_one()
    asking = [scene.ask(f'text {i}') for i in range(4)]
    scene.wait_waiting(4)
    scene.gateway.signal()
    scene.gateway.wait_line('draining')
    scene.arrays.let_go()
    assert first.response().status == 200
    for i, one in enumerate(asking):
        assert embeddings(one.response()) == [vector_of(f'text {i}')]
    assert scene.gateway.wait() == 0


@pytest.mark.parametrize('workers', [1, 2])
def test_clients_that_come_and_go_leave_nothing_behind(world, workers):
    scene = Scene(world, workers=workers, limit=2, wait_max_ms=5)
    scene.arrays.breaks = lambda peer, items: time.sleep(0.01)
    wrong = []

    def run(number):
        for i in range(15):
            text = 'bad' if (number + i) % 11 == 0 else f'{number} {i}'
            one = scene.ask(text if i % 4 else [text, 'other'])
            if (number * i) % 5 == 1:
                time.sleep(0.002 * (i % 4))
                one.client.reset() if i % 2 else one.client.close()
                continue
            answer = one.response()
            right = [vector_of(text)] if i % 4 else [vector_of(text), vector_of('other')]
            if answer.status != (400 if text == 'bad' else 200) or (text != 'bad' and embeddings(answer) != right):
                wrong.append((text, answer.status, answer.body))
    threads = [threading.Thread(target=run, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    scene.settle()


def test_a_simulated_engines_embeddings_are_the_same_merged(world):
    sim = world.sim('--time-scale', '100')
    route = inference_route()
    route['inference']['cache'] = False
    plain = world.gateway([route], endpoints=[sim])
    route = inference_route()
    route['inference'].update(cache=False, batching=True)
    batching = world.gateway([route], endpoints=[sim], workers=2,
                             upstream={'scheduling': {'limiter': 'fixed', 'concurrency': 2}})
    bodies = [{'model': 'sluice-sim', 'input': [f'a {i}', f'b {i}'] if i % 2 else f'text {i}', 'dimensions': 16,
               'encoding_format': 'base64' if i % 3 == 0 else 'float'} for i in range(60)]
    asking = [Asking(batching, body) for body in bodies]
    answers = [a.response() for a in asking]
    for body, answer in zip(bodies, answers):
        alone = json.loads(post(plain.address, EMBEDDINGS, json.dumps(body), JSON).body)
        one = json.loads(answer.body)
        assert one['data'] == alone['data']
    assert batching.metrics().value('sluice_batch_requests_total', how='merged') > 0
    used = sum(json.loads(a.body)['usage']['total_tokens'] for a in answers)
    assert used == sum(json.loads(post(plain.address, EMBEDDINGS, json.dumps(b), JSON).body)['usage']['total_tokens']
                       for b in bodies)


def test_an_openai_clients_embeddings_merge(world, openai):
    scene = Scene(world, hold=True, limit=1)
    scene.arrays.result = lambda i, item, body: (
        f'{{"object":"embedding","embedding":"{base64.b64encode(struct.pack("<f", tokens_of(item))).decode()}",'
        f'"index":{i}}}' if body.get('encoding_format') == 'base64' else Arrays.result(scene.arrays, i, item, body))
    call = {'do': 'embeddings'}
    found = {}

    def run(number):
        texts = ['w'] * 1 if number == 0 else ['w ' * (number + i) for i in range(2)]
        found[number] = openai(scene.gateway.url + '/v1', {**call, 'params': {'model': 'm', 'input': texts}})[0]
    threads = [threading.Thread(target=run, args=(0,))]
    threads[0].start()
    wait_until(lambda: len(scene.arrays.calls) == 1, 20)
    threads += [threading.Thread(target=run, args=(n,)) for n in (1, 2, 3)]
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: scene.value('sluice_batch_waiting_items') == 6, 20)
    scene.arrays.let_go()
    for thread in threads:
        thread.join()
    for number in (1, 2, 3):
        value = found[number]['value']
        assert [d['embedding'] for d in value['data']] == [[float(number)], [float(number + 1)]]
        assert value['usage']['total_tokens'] == 2 * number + 1
    assert scene.arrays.sizes() == [1, 6]
    scene.settle()


def test_a_list_longer_than_calls_are_now_goes_as_one(world):
    scene = Scene(world, hold=True, limit=1)
    texts = [f'text {i}' for i in range(100)]
    first = scene.hold_one()
    asking = [scene.ask(texts), scene.ask('another'), scene.ask(texts[:30])]
    scene.wait_waiting(131)
    scene.arrays.let_go()
    first.response()
    assert embeddings(asking[0].response()) == [vector_of(t) for t in texts]
    assert embeddings(asking[1].response()) == [vector_of('another')]
    assert embeddings(asking[2].response()) == [vector_of(t) for t in texts[:30]]
    assert max(scene.arrays.sizes()) >= 100
    scene.settle()


# ---- figures ----


def test_performance_tells_of_batching(world):
    scene = Scene(world, hold=True, limit=1)
    merged(scene, [{'model': 'm', 'input': f'text {i}'} for i in range(5)])
    scene.settle()
    batching, = json.loads(get(scene.gateway.admin, '/api/performance').body)['batching']
    assert batching['route'] == '/'
    assert (batching['calls'], batching['items'], batching['waiting_items'], batching['calls_in_flight']) == (2, 6, 0, 0)
    assert batching['requests'] == {'merged': 5, 'alone': 1, 'unmerged': 0, 'parts': 0, 'late': 0}
    assert sum(batching['flushes'].values()) == 2
    assert batching['wait_ms']['count'] == 6
    assert 0 < batching['fill'] <= 1 and batching['target_items'] >= 1
