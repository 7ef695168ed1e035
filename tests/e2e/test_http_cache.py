"""The cache of `http` routes (RFC 9111), with an origin that says what a test wants it to and counts what it is asked.

An answer with `max-age=10` and `Age: 10` is stale from the start, so that no test has to wait."""

import re
import threading
import time

import pytest

from backend import keep_answering
from programs import http_route
from rawhttp import Client, get, post, wait_until

STALE = 'Cache-Control: max-age=10{}\r\nAge: 10\r\n'
FRESH = 'Cache-Control: max-age=60\r\n'
YESTERDAY = 'Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n'


def answer(body=b'', fields='', status='200 OK'):
    body = body.encode() if isinstance(body, str) else body
    return f'HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n'.encode('latin-1') + body


def not_modified(fields=''):
    return f'HTTP/1.1 304 Not Modified\r\n{fields}\r\n'.encode('latin-1')


def by_etag(tag, whole, fresh=''):
    """Answers `whole`, or 304 to who has the tag."""
    return lambda request, n: not_modified(fresh) if request.fields.get('if-none-match') == tag else whole


class Origin:
    """Answers by path: bytes, a list of them (the last one again and again), or a function of request and number."""

    def __init__(self, world, cache=True, workers=1, **more):
        self.answers, self.asked, self.lock = {}, [], threading.Lock()
        self.backend = world.backend(keep_answering(self.reply))
        route = http_route()
        route['http']['cache'] = cache
        self.gateway = world.gateway([route], endpoints=[self.backend], workers=workers, **more)

    def reply(self, peer, request):
        path = request.target.split('?')[0]
        with self.lock:
            number = sum(1 for r in self.asked if r.target.split('?')[0] == path)
            self.asked.append(request)
        given = self.answers.get(path, answer('?', FRESH))
        if isinstance(given, list):
            given = given[min(number, len(given) - 1)]
        if callable(given):
            given = given(request, number)
        if given is None:
            peer.reset()
            raise ConnectionError('as the test wants it')
        peer.send(given.partition(b'\r\n\r\n')[0] + b'\r\n\r\n' if request.method == 'HEAD' else given)

    def of(self, path):
        with self.lock:
            return [r for r in self.asked if r.target.split('?')[0] == path]

    def count(self, path):
        return len(self.of(path))

    def get(self, path='/', fields='', method='GET', host='test'):
        return get(self.gateway.address, path, host, fields, method)

    def stored(self, path='/', fields=''):
        """Fetches it, and waits until it is found in the cache."""
        first = self.get(path, fields)
        return wait_until(lambda: (r := self.get(path, fields)) and is_hit(r) and r or None, what=f'a hit after {first}')


def status_of(response):
    return response.fields.get('cache-status', '')


def is_hit(response):
    return '; hit' in status_of(response)


@pytest.fixture
def origin(world):
    return Origin(world)


# ---- freshness ----


def test_a_fresh_answer_is_given_again_with_its_age(origin):
    origin.answers['/'] = answer('one', 'Cache-Control: max-age=60\r\nAge: 7\r\nX-Other: yes\r\n')
    first = origin.get()
    assert first.body == b'one' and 'fwd=uri-miss' in status_of(first) and 'stored' in status_of(first)
    again = origin.get()
    assert again.body == b'one' and is_hit(again) and 'ttl=5' in status_of(again)
    assert 7 <= int(again.fields['age']) <= 9 and again.fields['x-other'] == 'yes'
    assert origin.count('/') == 1


def test_queries_and_hosts_are_told_apart(origin):
    origin.answers['/'] = lambda request, n: answer(request.fields['host'] + request.target, FRESH)
    seen = {origin.stored(path).body for path in ('/', '/?', '/?a=1', '/?a=2')}
    assert len(seen) == 4
    assert origin.get('/', host='other').body == b'other/'


@pytest.mark.parametrize('fields, why', [
    ('Cache-Control: no-store\r\n', 'no-store'),
    ('Cache-Control: private, max-age=60\r\n', 'private'),
    ('Cache-Control: max-age=60\r\nVary: *\r\n', 'vary-all'),
    ('Cache-Control: max-age=0\r\n', 'useless'),
    ('Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n', 'set-cookie'),
    ('Cache-Control: max-age=60\r\nCDN-Cache-Control: no-store\r\n', 'no-store'),
])
def test_what_may_not_be_stored_is_not_and_says_why(origin, fields, why):
    origin.answers['/'] = answer('x', fields)
    for _ in range(3):
        response = origin.get()
        assert '; stored' not in status_of(response) and f'detail="{why}"' in status_of(response)
    assert origin.count('/') == 3


def test_a_request_that_forbids_it_is_not_stored(origin):
    assert 'request-no-store' in status_of(origin.get('/', 'Cache-Control: no-store\r\n'))
    assert not is_hit(origin.get())
    assert origin.count('/') == 2


def test_credentials_keep_an_answer_out_unless_it_says_otherwise(origin):
    origin.answers['/'] = answer('mine', FRESH)
    origin.answers['/public'] = answer('all', 'Cache-Control: public, max-age=60\r\n')
    for _ in range(2):
        assert 'detail="authorization"' in status_of(origin.get('/', 'Authorization: Basic eDp5\r\n'))
    assert not is_hit(origin.get())
    assert is_hit(origin.stored('/public', 'Authorization: Basic eDp5\r\n'))


def test_a_targeted_field_wins(origin):
    origin.answers['/'] = answer('x', 'Cache-Control: no-store\r\nCDN-Cache-Control: max-age=60\r\n')
    assert is_hit(origin.stored())
    assert origin.count('/') == 1


def test_only_if_cached_never_asks_the_origin(origin):
    wish = 'Cache-Control: only-if-cached\r\n'
    assert origin.get('/', wish).status == 504
    origin.stored()
    assert is_hit(origin.get('/', wish))
    assert origin.count('/') == 1


def test_errors_are_kept_for_a_short_time_but_not_every_one(world):
    origin = Origin(world, {'negative_ttl_ms': 60000})
    for path, status in (('/404', '404 Not Found'), ('/410', '410 Gone'), ('/401', '401 Unauthorized'),
                         ('/403', '403 Forbidden'), ('/429', '429 Too Many Requests'), ('/500', '500 Oh')):
        origin.answers[path] = answer('no', '', status)
    for path, asked in (('/404', 1), ('/410', 1), ('/401', 3), ('/403', 3), ('/429', 3), ('/500', 3)):
        for _ in range(3):
            assert origin.get(path).status == int(path[1:])
        assert origin.count(path) == asked, path


def test_a_key_of_parts_and_a_bypass(world):
    origin = Origin(world, {'key': ['host', 'path', 'header:x-plan'], 'bypass': ['cookie:session']})
    origin.answers['/'] = lambda request, n: answer(request.fields.get('x-plan', '-'), FRESH)
    assert origin.stored('/', 'X-Plan: a\r\n').body == b'a'
    assert origin.stored('/', 'X-Plan: b\r\n').body == b'b'
    assert origin.get('/?other=query', 'X-Plan: a\r\n').body == b'a'
    assert origin.count('/') == 2
    response = origin.get('/', 'X-Plan: a\r\nCookie: session=1\r\n')
    assert 'fwd=bypass' in status_of(response) and origin.count('/') == 3


# ---- validation ----


def test_an_entity_tag_is_asked_about_and_the_head_updated(origin):
    fresh = 'ETag: "a"\r\nCache-Control: max-age=60\r\nX-New: yes\r\n'
    origin.answers['/'] = by_etag('"a"', answer('body', STALE.format('') + 'ETag: "a"\r\nX-Old: yes\r\n'), fresh)
    origin.get()
    second = origin.get()
    assert second.status == 200 and second.body == b'body' and 'fwd=stale; fwd-status=304' in status_of(second)
    third = origin.get()
    assert is_hit(third) and third.body == b'body'
    assert third.fields['x-new'] == 'yes' and third.fields['x-old'] == 'yes'
    assert third.fields['cache-control'] == 'max-age=60'
    assert origin.count('/') == 2


def test_a_date_is_asked_about(origin):
    origin.answers['/'] = [answer('body', STALE.format('') + YESTERDAY), not_modified(FRESH)]
    origin.get()
    assert origin.get().body == b'body'
    assert origin.of('/')[1].fields['if-modified-since'] == 'Mon, 01 Jan 2024 00:00:00 GMT'
    assert is_hit(origin.get())


def test_no_cache_is_asked_about_each_time_and_once(origin):
    fields = 'Cache-Control: no-cache\r\nETag: "a"\r\n'
    origin.answers['/'] = by_etag('"a"', answer('body', fields), fields)
    for n in range(1, 5):
        assert origin.get().body == b'body'
        assert origin.count('/') == n


def test_another_answer_takes_the_place_of_the_stored_one(origin):
    origin.answers['/'] = [answer('old', STALE.format('') + 'ETag: "a"\r\n'), answer('new', FRESH + 'ETag: "b"\r\n')]
    assert [origin.get().body for _ in range(3)] == [b'old', b'new', b'new']
    assert origin.count('/') == 2


def test_a_304_for_something_else_is_not_believed(origin):
    origin.answers['/'] = [answer('old', STALE.format('') + 'ETag: "a"\r\n'), not_modified('ETag: "b"\r\n'),
                           answer('new', FRESH)]
    assert [origin.get().body for _ in range(2)] == [b'old', b'new']
    assert 'if-none-match' not in origin.of('/')[2].fields


def test_a_304_that_forbids_storing_ends_it(origin):
    origin.answers['/'] = by_etag('"a"', answer('body', STALE.format('') + 'ETag: "a"\r\n'),
                                  'ETag: "a"\r\nCache-Control: no-store\r\n')
    for n in range(1, 4):
        assert origin.get().body == b'body'
        assert origin.count('/') == n


def test_the_clients_conditions_are_answered_from_the_cache(origin):
    origin.answers['/'] = answer('body', FRESH + 'ETag: "a"\r\n' + YESTERDAY)
    origin.stored()
    for fields in ('If-None-Match: "x", W/"a"\r\n', 'If-None-Match: *\r\n',
                   'If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT\r\n'):
        response = origin.get('/', fields)
        assert response.status == 304 and is_hit(response) and response.fields['etag'] == '"a"'
    assert origin.get('/', 'If-None-Match: "x"\r\n').status == 200
    assert origin.count('/') == 1


def test_the_clients_conditions_hold_on_a_miss(origin):
    origin.answers['/'] = answer(b'b' * 5000, FRESH + 'ETag: "a"\r\n')
    response = origin.get('/', 'If-None-Match: "a"\r\n')
    assert response.status == 304 and 'fwd=uri-miss' in status_of(response)
    assert 'if-none-match' not in origin.of('/')[0].fields
    assert origin.stored().body == b'b' * 5000
    assert origin.count('/') == 1


def test_a_304_on_a_miss_does_not_stop_the_fetch(origin):
    go_on = threading.Event()

    def slowly(peer, request):
        peer.send(f'HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n{FRESH}ETag: "a"\r\n\r\n'.encode() + b'x' * 1000)
        go_on.wait(10)
        peer.send(b'y' * 199000)
    origin.backend.script = keep_answering(slowly)
    with Client(origin.gateway.address) as client:
        assert client.request('GET / HTTP/1.1\r\nHost: test\r\nIf-None-Match: "a"\r\n\r\n').status == 304
        go_on.set()
        client.send('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
        assert client.response().body == b'x' * 1000 + b'y' * 199000
    assert len(origin.backend.requests) == 1


def test_if_match_is_the_origins_to_judge(origin):
    origin.answers['/'] = lambda request, n: answer('', '', '412 Precondition Failed') if 'if-match' in request.fields \
        else answer('body', FRESH + 'ETag: "a"\r\n')
    origin.stored()
    assert origin.get('/', 'If-Match: "b"\r\n').status == 412
    assert is_hit(origin.get())


# ---- Vary ----


def test_variants_are_told_apart(origin):
    origin.answers['/'] = lambda request, n: answer(request.fields.get('accept-language', '-'),
                                                    FRESH + 'Vary: Accept-Language\r\n')
    assert origin.stored('/', 'Accept-Language: de\r\n').body == b'de'
    assert origin.stored('/', 'Accept-Language: en\r\n').body == b'en'
    assert origin.stored().body == b'-'
    assert origin.get('/', 'Accept-Language: de\r\n').body == b'de'
    assert origin.count('/') == 3
    response = origin.get('/', 'Accept-Language: fr\r\n')
    assert response.body == b'fr' and 'fwd=vary-miss' in status_of(response)


def test_who_joins_gets_no_variant_of_another(origin):
    gate = threading.Event()

    def reply(request, n):
        gate.wait(10)
        return answer(request.fields['x-who'], FRESH + 'Vary: X-Who\r\n')
    origin.answers['/'] = reply
    bodies = {}
    threads = [threading.Thread(target=lambda who=who: bodies.update({who: origin.get('/', f'X-Who: {who}\r\n').body}))
               for who in 'ab']
    for thread in threads:
        thread.start()
    wait_until(lambda: origin.count('/') >= 1)
    time.sleep(0.1)
    gate.set()
    for thread in threads:
        thread.join()
    assert bodies == {'a': b'a', 'b': b'b'}


# ---- stale ----


def test_stale_while_revalidate_answers_at_once_and_refreshes_once(origin):
    gate = threading.Event()

    def reply(request, n):
        if n == 0:
            return answer('old', STALE.format(', stale-while-revalidate=60'))
        gate.wait(10)
        return answer('new', FRESH)
    origin.answers['/'] = reply
    assert origin.get().body == b'old'
    for _ in range(5):
        response = origin.get()
        assert response.body == b'old' and is_hit(response) and re.search(r'ttl=(-|0)', status_of(response))
    assert wait_until(lambda: origin.count('/') == 2), 'five were answered, one refresh is under way'
    gate.set()
    assert wait_until(lambda: origin.get().body == b'new')
    assert origin.count('/') == 2


def test_a_refresh_that_fails_is_not_tried_with_every_request(origin):
    origin.answers['/'] = [answer('old', STALE.format(', stale-while-revalidate=60')), None]
    origin.get()
    origin.get()
    wait_until(lambda: origin.count('/') >= 2)
    time.sleep(0.1)
    tried = origin.count('/')
    for _ in range(10):
        assert origin.get().body == b'old'
    assert origin.count('/') == tried


@pytest.mark.parametrize('failing', [answer('', '', '503 Busy'), None], ids=['503', 'reset'])
def test_stale_if_error_stands_in_and_leaves_the_origin_alone(origin, failing):
    origin.answers['/'] = [answer('old', STALE.format(', stale-if-error=60')), failing]
    origin.get()
    for _ in range(10):
        response = origin.get()
        assert response.status == 200 and response.body == b'old' and is_hit(response)
    assert origin.count('/') <= 3, 'the first that failed, and once more on a connection of its own'


def test_an_error_is_an_error_where_stale_answers_are_not_allowed(origin):
    origin.answers['/'] = [answer('old', STALE.format('')), answer('', '', '503 Busy')]
    origin.get()
    assert origin.get().status == 503


def test_while_the_origin_is_away_what_is_stale_serves(origin):
    for path, more in (('/plain', ''), ('/must', ', must-revalidate'), ('/shared', ', s-maxage=10'), ('/no', ', no-cache')):
        origin.answers[path] = [answer('old', STALE.format(more) + 'ETag: "a"\r\n'), None]
        origin.get(path)
    for _ in range(2):
        response = origin.get('/plain')
        assert response.body == b'old' and is_hit(response)
        assert origin.get('/must').status == 502
        assert origin.get('/shared').status == 502
        assert origin.get('/no').status == 502


# ---- invalidation ----


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'PATCH', 'M-SEARCH'])
def test_a_successful_unsafe_method_invalidates(origin, method):
    origin.stored('/x')
    origin.stored('/x?q')
    assert 'fwd=method; fwd-status=200' in status_of(origin.get('/x', method=method))
    assert not is_hit(origin.get('/x'))
    assert is_hit(origin.get('/x?q'))


def test_a_failed_or_safe_method_does_not(origin):
    origin.answers['/x'] = lambda request, n: answer('no', '', '409 Conflict') if request.method == 'PUT' else \
        answer('yes', FRESH)
    origin.stored('/x')
    assert origin.get('/x', method='PUT').status == 409
    assert status_of(origin.get('/x', method='OPTIONS')) == ''
    assert is_hit(origin.get('/x'))


def test_locations_of_the_same_origin_are_invalidated_too(origin):
    origin.answers['/do'] = answer('', 'Location: /a?b#c\r\nContent-Location: http://test/c/../d\r\n', '201 Created')
    origin.answers['/evil'] = answer('', 'Location: http://other/a?b\r\n', '201 Created')
    for path in ('/a?b', '/a', '/d'):
        origin.stored(path)
    origin.get('/evil', method='POST')
    assert is_hit(origin.get('/a?b'))
    origin.get('/do', method='POST')
    assert not is_hit(origin.get('/a?b')) and not is_hit(origin.get('/d'))
    assert is_hit(origin.get('/a'))


def test_every_variant_and_every_key_of_a_url_goes(world):
    for cache in (True, {'key': ['host', 'path', 'query', 'header:x-plan']}):
        origin = Origin(world, cache)
        origin.answers['/'] = answer('x', FRESH + 'Vary: X-Plan\r\n')
        origin.answers['/longer'] = answer('x', FRESH)
        for plan in 'ab':
            origin.stored('/', f'X-Plan: {plan}\r\n')
        origin.stored('/longer')
        origin.get('/', method='DELETE')
        for plan in 'ab':
            assert not is_hit(origin.get('/', f'X-Plan: {plan}\r\n'))
        assert is_hit(origin.get('/longer'))


def test_groups_are_invalidated(origin):
    origin.answers['/member'] = answer('x', FRESH + 'Cache-Groups: "one", "two"\r\n')
    origin.answers['/other'] = answer('x', FRESH + 'Cache-Groups: "three"\r\n')
    origin.answers['/do'] = answer('', 'Cache-Group-Invalidation: "two"\r\n')
    origin.stored('/member')
    origin.stored('/other')
    origin.get('/do')
    assert is_hit(origin.get('/member')), 'a safe method may not'
    origin.get('/do', method='POST')
    assert not is_hit(origin.get('/member'))
    assert is_hit(origin.get('/other'))


def test_who_has_changed_something_never_gets_what_was_before(world):
    origin = Origin(world, workers=2)
    versions = {}

    def reply(request, n):
        if request.method == 'PUT':
            versions[request.target] = versions.get(request.target, 0) + 1
            return answer('', '', '204 No Content').replace(b'Content-Length: 0\r\n', b'')
        return answer(str(versions.get(request.target, 0)), FRESH)
    for i in range(30):
        path = f'/{i}'
        origin.answers[path] = reply
        with Client(origin.gateway.address) as one, Client(origin.gateway.address) as two:
            for version in range(3):
                for client in (one, two, one):
                    assert client.request(f'GET {path} HTTP/1.1\r\nHost: test\r\n\r\n').body == str(version).encode()
                one.request(f'PUT {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi')
                response = two.request(f'GET {path} HTTP/1.1\r\nHost: test\r\n\r\n')
                assert response.body == str(version + 1).encode(), status_of(response)


def test_what_was_asked_for_before_a_change_is_not_kept_after_it(origin):
    gate = threading.Event()

    def reply(request, n):
        if request.method == 'PUT':
            return answer()
        if n == 0:
            gate.wait(10)
            return answer('old', FRESH)
        return answer('new', FRESH)
    origin.answers['/'] = reply
    slow = []
    thread = threading.Thread(target=lambda: slow.append(origin.get().body))
    thread.start()
    wait_until(lambda: origin.count('/') == 1)
    origin.get(method='PUT')
    assert origin.get().body == b'new', 'does not join what was asked before'
    gate.set()
    thread.join()
    assert slow == [b'old']
    for _ in range(3):
        assert origin.get().body == b'new'


def test_an_answer_to_post_that_is_one_to_get(origin):
    fields = FRESH + 'Content-Location: http://test/x\r\n'
    origin.answers['/x'] = answer('result', fields)
    origin.answers['/y'] = answer('other', fields)
    assert post(origin.gateway.address, '/y', 'q').body == b'other'
    assert not is_hit(origin.get('/y'))
    assert post(origin.gateway.address, '/x', 'q').body == b'result'
    assert wait_until(lambda: is_hit(origin.get('/x')))
    assert [r.method for r in origin.of('/x')][0] == 'POST' and origin.count('/x') <= 2


def test_a_streamed_upload_to_a_cached_route(origin):
    origin.answers['/'] = lambda request, n: answer(request.body or b'', FRESH)
    body = b'z' * 1_000_000
    assert post(origin.gateway.address, '/', body).body == body


# ---- HEAD ----


def test_head_is_answered_from_what_is_stored_for_get(origin):
    origin.answers['/'] = answer('body', FRESH + 'X-A: 1\r\n')
    origin.stored()
    response = origin.get(method='HEAD')
    assert is_hit(response) and response.fields['content-length'] == '4' and response.fields['x-a'] == '1'
    assert origin.count('/') == 1


def test_a_head_that_is_asked_freshens_or_outdates(origin):
    def reply(tag):
        def by_method(request, n):
            if request.method == 'HEAD':
                return f'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: {tag}\r\nX-New: yes\r\n{FRESH}\r\n'.encode()
            if request.fields.get('if-none-match') == '"a"':
                return answer('more', FRESH + 'ETag: "b"\r\n')
            return answer('body', STALE.format('') + 'ETag: "a"\r\n')
        return by_method
    origin.answers['/same'], origin.answers['/other'] = reply('"a"'), reply('"b"')
    for path in ('/same', '/other'):
        origin.get(path)
        assert origin.get(path, method='HEAD').fields['x-new'] == 'yes'
    same = wait_until(lambda: (r := origin.get('/same')) and is_hit(r) and r)
    assert same.body == b'body' and same.fields['x-new'] == 'yes'
    assert origin.count('/same') == 2
    assert origin.get('/other').body == b'more'


# ---- bodies ----


@pytest.mark.parametrize('size', [0, 1, 5000, 70_000, 5_000_000])
def test_bodies_of_every_size(world, size):
    origin = Origin(world)
    body = bytes(i * 7 % 251 for i in range(10_000)) * (size // 10_000 + 1)
    body = body[:size]
    origin.answers['/'] = answer(body, FRESH)
    assert origin.get().body == body
    hit = origin.stored()
    assert hit.body == body and hit.fields['content-length'] == str(size)
    assert origin.count('/') == 1




def test_chunked_answers_and_trailers(origin):
    origin.answers['/'] = (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n' + FRESH.encode() +
                           b'\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n')
    origin.answers['/t'] = (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n' + FRESH.encode() +
                            b'\r\n3\r\nabc\r\n0\r\nX-End: yes\r\n\r\n')
    assert origin.get().body == b'abcdefg'
    assert origin.stored().body == b'abcdefg'
    assert origin.get('/t').body == b'abc'
    assert origin.stored('/t').body == b'abc'


def test_a_broken_body_is_not_stored(origin):
    def break_off(peer, request):
        peer.send(f'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n{FRESH}\r\nabc'.encode())
        peer.reset()
        raise ConnectionError('as the test wants it')
    origin.backend.script = keep_answering(break_off)
    for _ in range(2):
        with Client(origin.gateway.address) as client:
            client.send('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
            with pytest.raises(Exception):
                client.response()
    assert len(origin.backend.requests) >= 2


def test_an_old_client_gets_hits_too(origin):
    origin.answers['/'] = answer('body', FRESH)
    origin.stored()
    with Client(origin.gateway.address) as client:
        response = client.request('GET / HTTP/1.0\r\nHost: test\r\n\r\n')
        assert response.body == b'body' and is_hit(response)
        assert client.end() == 'fin'


def test_pipelined_requests_are_answered_in_order(origin):
    origin.answers['/a'], origin.answers['/b'] = answer('a' * 40_000, FRESH), answer('b', FRESH)
    with Client(origin.gateway.address) as client:
        for _ in range(2):
            client.send(''.join(f'GET /{x} HTTP/1.1\r\nHost: test\r\n\r\n' for x in 'abcab'))
            assert [client.response().body[:1] for _ in range(5)] == [b'a', b'b', b'?', b'a', b'b']


def test_one_fetch_serves_all_who_ask_at_once(world):
    origin = Origin(world, workers=2)
    gate = threading.Event()

    def reply(request, n):
        gate.wait(10)
        return answer(b'x' * 100_000, FRESH)
    origin.answers['/'] = reply
    got = []
    threads = [threading.Thread(target=lambda: got.append(origin.get())) for _ in range(40)]
    for thread in threads:
        thread.start()
    wait_until(lambda: origin.gateway.metrics().value('sluice_active_requests') == len(threads))
    gate.set()
    for thread in threads:
        thread.join()
    assert origin.count('/') == 1 and {len(r.body) for r in got} == {100_000}
    assert sum('collapsed' in status_of(r) for r in got) >= 30


# ---- interim responses ----


def test_early_hints_reach_who_asked_and_are_not_stored(origin):
    hints = b'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n'
    origin.answers['/'] = b'HTTP/1.1 100 Continue\r\n\r\n' + hints + answer('body', FRESH)
    with Client(origin.gateway.address) as client:
        client.send('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
        interim = client.head()
        assert interim.status == 103 and interim.fields['link'] == '</a.css>; rel=preload'
        assert client.response().body == b'body'
        client.send('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
        final = client.head()
        assert final.status == 200 and 'link' not in final.fields


def test_an_old_client_gets_no_interim_response(origin):
    origin.answers['/'] = b'HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n' + answer('body', FRESH)
    with Client(origin.gateway.address) as client:
        client.send('GET / HTTP/1.0\r\nHost: test\r\n\r\n')
        assert client.head().status == 200


# ---- what the origin sends too much ----


def test_an_answer_with_bytes_behind_it_is_neither_given_nor_stored(origin):
    origin.answers['/'] = answer('body', FRESH) + b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil'
    assert [origin.get().status for _ in range(2)] == [502, 502]
    assert origin.count('/') == 2
    origin.answers['/'] = answer('body', FRESH)
    assert origin.stored().body == b'body'


# ---- when things go wrong ----


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('method', ['GET', 'HEAD', 'PUT', 'RANGE'])
def test_a_fetch_that_fails_in_any_phase_hangs_nobody(world, workers, method):
    origin = Origin(world, workers=workers)
    fields = 'Range: bytes=0-5\r\n' if method == 'RANGE' else ''
    method = 'GET' if method == 'RANGE' else method
    half_a_head = b'HTTP/1.1 200 OK\r\nContent-Le'
    nonsense = b'what?\r\n\r\n'
    interim_only = b'HTTP/1.1 103 Early Hints\r\n\r\n'

    def broken(bytes_sent):
        def script(peer):
            peer.request()
            peer.send(bytes_sent)
        return script
    for sent in (b'', half_a_head, nonsense, interim_only):
        origin.backend.script = broken(sent)
        threads, got = [], []
        for _ in range(6):
            threads.append(threading.Thread(target=lambda: got.append(origin.get('/', fields, method).status)))
            threads[-1].start()
        for thread in threads:
            thread.join(10)
        assert len(got) == 6 and set(got) <= {502, 503}, (sent, got)
    origin.backend.script = keep_answering(origin.reply)
    assert origin.get('/', fields, method).status == 200


@pytest.mark.parametrize('workers', [1, 2])
def test_clients_that_leave_in_any_phase_leave_nothing_behind(world, workers):
    origin = Origin(world, workers=workers)
    gates = {path: threading.Event() for path in ('/head', '/body', '/put')}

    def script(peer):
        while True:
            request = peer.request()
            if request is None:
                return
            path = request.target
            if path == '/body':
                peer.send(f'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n{FRESH}\r\n'.encode() + b'x' * 1000)
            gates[path].wait(10)
            try:
                peer.send(b'x' * 99000 if path == '/body' else answer('late', FRESH))
            except OSError:
                return
    origin.backend.script = script
    for path, method in (('/head', 'GET'), ('/body', 'GET'), ('/put', 'PUT')):
        clients = [Client(origin.gateway.address) for _ in range(5)]
        for client in clients:
            client.send(f'{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n')
        wait_until(lambda p=path: any(r.target == p for r in origin.backend.requests))
        time.sleep(0.05)
        for client in clients:
            client.reset()
        time.sleep(0.05)
        gates[path].set()
        assert origin.get(path, method=method).status == 200


def test_one_of_many_leaves_and_the_others_are_served(world):
    origin = Origin(world, workers=2)
    gate = threading.Event()

    def reply(request, n):
        gate.wait(10)
        return answer(b'x' * 300_000, FRESH)
    origin.answers['/'] = reply
    clients = [Client(origin.gateway.address) for _ in range(10)]
    for client in clients:
        client.send('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
    wait_until(lambda: origin.count('/') == 1)
    time.sleep(0.1)
    for client in clients[::2]:
        client.reset()
    time.sleep(0.05)
    gate.set()
    for client in clients[1::2]:
        assert len(client.response().body) == 300_000


def test_an_old_client_misses_a_chunked_answer(origin):
    origin.answers['/'] = (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n' + FRESH.encode() +
                           b'\r\n3\r\nabc\r\n0\r\n\r\n')
    for _ in range(3):
        with Client(origin.gateway.address) as client:
            assert client.request('GET / HTTP/1.0\r\nHost: test\r\n\r\n').body == b'abc'
            assert client.end() == 'fin'
    assert origin.count('/') == 1


def test_an_answer_to_head_with_a_body_is_refused_and_outdates_nothing(origin):
    origin.answers['/'] = answer('body', STALE.format('') + 'ETag: "a"\r\n')

    def with_body(peer, request):
        peer.send(answer('body', FRESH + 'ETag: "b"\r\n') if request.method == 'HEAD' else
                  answer('body', STALE.format('') + 'ETag: "a"\r\n'))
    origin.backend.script = keep_answering(with_body)
    with Client(origin.gateway.address) as client:
        for _ in range(2):
            assert client.request('HEAD / HTTP/1.1\r\nHost: test\r\n\r\n').status == 502
            assert client.request('GET / HTTP/1.1\r\nHost: test\r\n\r\n').body == b'body'


def test_a_slow_reader_of_a_long_hit(origin):
    body = b'z' * 5_000_000
    origin.answers['/'] = answer(body, FRESH)
    origin.stored()
    with Client(origin.gateway.address, receive_buffer=4096) as client:
        hits = origin.gateway.metrics().value('sluice_cache_requests_total', result='hit')
        client.send('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
        wait_until(lambda: origin.gateway.metrics().value('sluice_cache_requests_total', result='hit') > hits)
        origin.get(method='DELETE')
        response = client.response()
        assert response.body == body, 'what is being sent stays, though it has been removed'
    assert not is_hit(origin.get())


def test_ends_while_everything_is_under_way(world):
    origin = Origin(world, workers=2, limits={'drain_timeout_ms': 300})
    gate = threading.Event()
    origin.answers['/'] = lambda request, n: gate.wait(3) and b'' or answer('x', FRESH)
    clients = [Client(origin.gateway.address) for _ in range(8)]
    for i, client in enumerate(clients):
        client.send(f'{("GET", "HEAD", "PUT", "GET")[i % 4]} / HTTP/1.1\r\nHost: test\r\n\r\n')
    wait_until(lambda: origin.count('/') >= 4)
    origin.gateway.stop()
    gate.set()
