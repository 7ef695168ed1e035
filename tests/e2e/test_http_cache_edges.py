"""The cache of `http` routes where a client, an origin or a proxy between them does what few do: what one client says
must never decide what another gets, and what is permitted only with conditions must not happen without them."""

import threading
import time

import pytest

from backend import keep_answering
from rawhttp import wait_until
from test_http_cache import FRESH, STALE, YESTERDAY, Origin, answer, by_etag, is_hit, not_modified, status_of

COOKIE = 'Set-Cookie: session=secret\r\n'


@pytest.fixture
def origin(world):
    return Origin(world)


@pytest.fixture(params=[1, 2], ids=['one worker', 'two workers'])
def shared_origin(world, request):
    return Origin(world, workers=request.param)


def all_at_once(origin, path, fields, gate):
    """One request with each of the fields, so that the later ones join the first; what they got, in their order."""
    responses = [None] * len(fields)

    def ask(i):
        responses[i] = origin.get(path, fields[i])
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(fields))]
    time.sleep(0.1)  # what was asked for before is stored, and joined no more
    before = origin.count(path)
    threads[0].start()
    wait_until(lambda: origin.count(path) > before)
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.15)
    gate.set()
    for thread in threads:
        thread.join()
    return responses


# ---- what the origin does not see selects nothing ----


@pytest.mark.parametrize('hidden', ['Connection: X-Plan\r\nX-Plan: gold\r\n', 'X_Plan: gold\r\n'])
@pytest.mark.parametrize('cache', [True, {'key': ['host', 'path', 'query', 'header:x-plan', 'header:x_plan']}],
                         ids=['vary', 'key'])
def test_a_field_that_is_not_passed_on_selects_no_variant(world, cache, hidden):
    origin = Origin(world, cache)
    origin.answers['/'] = lambda request, n: answer(request.fields.get('x-plan', 'none'),
                                                    FRESH + 'Vary: X-Plan, X_Plan\r\n')
    assert origin.stored('/', hidden).body == b'none'
    assert origin.get('/', 'X-Plan: gold\r\n').body == b'gold'
    assert is_hit(origin.get('/')), 'to the origin the first was a request without it'


def test_every_line_of_a_part_of_the_key_counts(world):
    origin = Origin(world, {'key': ['host', 'path', 'header:x-plan', 'cookie:plan', 'query:plan']})
    origin.answers['/'] = lambda request, n: answer(repr((request.target, request.fields.items)), FRESH)
    seen = [origin.stored('/', 'X-Plan: a\r\n').body, origin.stored('/', 'X-Plan: a\r\nX-Plan: b\r\n').body,
            origin.stored('/', 'Cookie: plan=a\r\n').body, origin.stored('/', 'Cookie: plan=a; plan=b\r\n').body,
            origin.stored('/', 'Cookie: plan=a\r\nCookie: plan=b\r\n').body,
            origin.stored('/?plan=a').body, origin.stored('/?plan=a&plan=b').body, origin.stored('/?pl%61n=b').body]
    assert len(set(seen)) >= 7  # two cookies are the same in one line and in two


# ---- cookies and other clients' secrets ----


def test_the_cookie_of_a_304_is_nobody_elses(shared_origin):
    gate = threading.Event()

    def reply(request, n):
        if n == 0:
            return answer('body', STALE.format('') + 'ETag: "a"\r\n')
        gate.wait(10)
        fields = f'{FRESH}ETag: "a"\r\nSet-Cookie: session={n}\r\n'
        return not_modified(fields) if 'if-none-match' in request.fields else answer('body', fields)
    shared_origin.answers['/'] = reply
    shared_origin.get()
    responses = all_at_once(shared_origin, '/', ['', '', ''], gate) + [shared_origin.get(), shared_origin.get()]
    assert all(r.status == 200 and r.body == b'body' for r in responses)
    assert sorted(r.fields['set-cookie'] for r in responses) == [f'session={n}' for n in range(1, 6)]
    assert all('if-none-match' in r.fields for r in shared_origin.of('/')[1:]), 'what is stored holds'
    assert 'fwd-status=304' in status_of(responses[0])


def test_the_cookie_of_a_304_to_what_has_no_lifetime_any_more_is_nobody_elses(origin):
    first = answer('body', STALE.format('') + 'ETag: "a"\r\n', '302 Found')
    origin.answers['/'] = by_etag('"a"', first, 'ETag: "a"\r\nCache-Control: x\r\n' + COOKIE)
    origin.get()
    assert origin.get().fields['set-cookie'] == 'session=secret'
    origin.answers['/'] = by_etag('"a"', first, 'ETag: "a"\r\n')
    response = origin.get()
    assert response.status == 302 and response.body == b'body' and 'set-cookie' not in response.fields


def test_the_cookie_of_an_answer_to_head_is_nobody_elses(origin):
    def reply(request, n):
        if request.method == 'HEAD':
            return f'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: "a"\r\n{FRESH}{COOKIE}\r\n'.encode()
        if 'if-none-match' in request.fields:
            return not_modified(FRESH + 'ETag: "a"\r\n')
        return answer('body', STALE.format('') + 'ETag: "a"\r\n')
    origin.answers['/'] = reply
    origin.get()
    assert origin.get(method='HEAD').fields['set-cookie'] == 'session=secret'
    time.sleep(0.05)
    for _ in range(3):
        response = origin.get()
        assert response.body == b'body' and 'set-cookie' not in response.fields


@pytest.mark.parametrize('said', ['Cache-Control: private, max-age=60\r\n', 'Cache-Control: no-store\r\n'])
def test_what_a_304_says_to_one_client_is_not_said_to_who_waited(shared_origin, said):
    gate = threading.Event()

    def reply(request, n):
        if n == 0:
            return answer('body', STALE.format('') + 'ETag: "a"\r\n')
        gate.wait(10)
        own = said + f'ETag: "a"\r\nX-For: {request.fields.get("x-who", "-")}\r\n'
        return not_modified(own) if 'if-none-match' in request.fields else answer('body', own)
    shared_origin.answers['/'] = reply
    shared_origin.get()
    responses = all_at_once(shared_origin, '/', ['X-Who: a\r\n', 'X-Who: b\r\n', 'X-Who: c\r\n'], gate)
    assert [r.fields['x-for'] for r in responses] == ['a', 'b', 'c']
    assert all(r.status == 200 and r.body == b'body' for r in responses)


def test_a_304_to_who_has_credentials_changes_nothing_for_others(origin):
    def reply(request, n):
        if 'authorization' in request.fields:
            own = FRESH + 'ETag: "a"\r\nX-For: bob\r\n'
            return not_modified(own) if 'if-none-match' in request.fields else answer('body', own)
        return answer('body', STALE.format('') + 'ETag: "a"\r\n')
    origin.answers['/'] = reply
    origin.get()
    response = origin.get('/', 'Authorization: Basic Ym9iOmI=\r\n')
    assert response.body == b'body' and response.fields['x-for'] == 'bob'
    assert 'x-for' not in origin.get().fields


@pytest.mark.parametrize('fields', [COOKIE, 'Vary: X-Who\r\n', 'Vary: *\r\n', 'Cache-Control: private\r\n'])
def test_an_error_for_one_client_is_not_given_to_who_waited(shared_origin, fields):
    gate = threading.Event()

    def reply(request, n):
        gate.wait(10)
        return answer(request.fields['x-who'], fields, '503 Busy')
    shared_origin.answers['/'] = reply
    responses = all_at_once(shared_origin, '/', ['X-Who: a\r\n', 'X-Who: b\r\n', 'X-Who: c\r\n'], gate)
    assert [r.body for r in responses] == [b'a', b'b', b'c']


# ---- validation ----


def test_a_304_that_varies_otherwise_selects_nothing_anew(origin):
    def reply(request, n):
        language = request.fields.get('accept-language', '-')
        if n == 0:
            return answer('-', STALE.format('') + 'ETag: "-"\r\n')
        if request.fields.get('if-none-match') == f'"{language}"':
            return not_modified(f'{FRESH}ETag: "{language}"\r\nVary: Accept-Language\r\n')
        return answer(language, f'{FRESH}ETag: "{language}"\r\nVary: Accept-Language\r\n')
    origin.answers['/'] = reply
    assert origin.get('/', 'Accept-Language: -\r\n').body == b'-'
    assert origin.get('/', 'Accept-Language: de\r\n').body == b'de'
    assert origin.get('/').body == b'-'


def test_a_304_without_date_is_of_now(origin):
    old = 'Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n'
    origin.answers['/'] = [answer('body', 'Cache-Control: max-age=60\r\nETag: "a"\r\n' + old),
                           not_modified(FRESH + 'ETag: "a"\r\n')]
    origin.get()
    response = origin.get()
    assert response.body == b'body' and int(response.fields['age']) <= 2
    assert is_hit(origin.get()) and origin.count('/') == 2
    assert response.fields['date'] != 'Mon, 01 Jan 2024 00:00:00 GMT'


def test_what_comes_without_date_is_dated_when_it_came(origin):
    origin.answers['/'] = answer('body', FRESH)
    first = origin.stored().fields['date']
    time.sleep(2.1)
    again = origin.get()
    assert is_hit(again) and again.fields['date'] == first and int(again.fields['age']) >= 2


def test_a_304_is_of_what_was_asked_about(origin):
    """One asks about "a"; meanwhile another, who goes alone, brings "b": the 304 does not speak of that."""
    gate = threading.Event()

    def reply(request, n):
        if n == 0:
            return answer('old', STALE.format('') + 'ETag: "a"\r\n')
        if request.method == 'POST':
            return answer('new', STALE.format('') + 'ETag: "b"\r\nContent-Location: /\r\n')
        if request.fields.get('if-none-match') == '"a"':
            gate.wait(10)
            return not_modified(FRESH)
        return answer('new', FRESH + 'ETag: "b"\r\n')
    origin.answers['/'] = reply
    origin.get()
    got = []
    thread = threading.Thread(target=lambda: got.append(origin.get().body))
    thread.start()
    wait_until(lambda: origin.count('/') == 2)
    origin.get(method='POST')
    gate.set()
    thread.join()
    assert origin.get().body == b'new'


# ---- what requests ask ----


@pytest.mark.parametrize('wish, hit', [
    ('', True),
    ('Cache-Control: max-age=3600\r\n', False),  # and no max-stale: nothing stale (§5.2.1.1)
    ('Cache-Control: max-age=3600, max-stale\r\n', True),
    ('Cache-Control: max-age=3600, max-stale=60\r\n', True),
    ('Cache-Control: min-fresh=0\r\n', False),
    ('Cache-Control: no-cache\r\n', False),
    ('Pragma: no-cache\r\n', False),
    ('Cache-Control: x\r\nPragma: no-cache\r\n', True),
])
def test_what_a_request_lets_a_stale_answer_be(origin, wish, hit):
    origin.answers['/'] = [answer('old', STALE.format(', stale-while-revalidate=60')), answer('new', FRESH)]
    origin.get()
    response = origin.get('/', wish)
    assert is_hit(response) == hit and response.body == (b'old' if hit else b'new')


@pytest.mark.parametrize('wish, hit', [
    ('max-age=20', True),
    ('max-age=5', False),
    ('MAX-AGE="20"', True),
    ('max-age=5, max-stale', True),
    ('max-age=5, max-stale=60', True),
    ('max-age=5, max-stale=1', False),  # older than asked for by more than is tolerated
    ('min-fresh=40', True),
    ('min-fresh=55', False),
    ('max-age=x', True),
    ('max-age=20, max-age=5', True),
    ('no-cache=x', False),
])
def test_what_a_request_lets_a_fresh_answer_be(origin, wish, hit):
    origin.answers['/'] = [answer('old', FRESH + 'Age: 10\r\n'), answer('new', FRESH)]
    origin.get()
    response = origin.get('/', f'Cache-Control: {wish}\r\n')
    assert is_hit(response) == hit and response.body == (b'old' if hit else b'new')


# ---- what answers say ----


@pytest.mark.parametrize('fields, hit', [
    ('Cache-Control: max-age=60\r\nAge: 60\r\n', False),
    ('Cache-Control: max-age=60\r\nAge: 59, 1\r\n', True),
    ('Cache-Control: max-age=60\r\nAge: 70, 1\r\n', False),
    ('Cache-Control: max-age=60\r\nAge: 1\r\nAge: 70\r\n', True),
    ('Cache-Control: max-age=60\r\nAge: 70\r\nAge: 1\r\n', False),
    ('Cache-Control: max-age=60\r\nAge: abc\r\n', True),
    ('Cache-Control: max-age=60\r\nAge: -70\r\n', True),
    ('Cache-Control: max-age=60\r\nAge: 99999999999999999999999\r\n', False),
    ('Cache-Control: max-age=99999999999999999999\r\nAge: 60\r\n', True),
    ('Cache-Control: max-age="60"\r\n', True),
    ('Cache-Control: Max-Age=60\r\n', True),
    ("Cache-Control: max-age='60'\r\n", False),
    ('Cache-Control: max-age =60\r\n', False),
    ('Cache-Control: max-age= 60\r\n', False),
    ('Cache-Control: max-age=60.5\r\n', False),
    ('Cache-Control: max-age=-1\r\n', False),
    ('Cache-Control: max-age=60, max-age=0\r\n', True),
    ('Cache-Control: max-age=0\r\nCache-Control: max-age=60\r\n', False),
    ('Cache-Control: max-age=60\r\nCache-Control: no-store\r\n', False),
    ('Cache-Control: max-age=60, x="no-store"\r\n', True),
    ('Cache-Control: max-age=60, x="\\", no-store"\r\n', True),
    ('Cache-Control: max-age=60, x=", no-store\r\n', False),
    ('Cache-Control: max-age=60, NO-STORE\r\n', False),
    ('Cache-Control: max-age=60, no-store=x\r\n', False),
    ('Cache-Control: max-age=60, private="x-a"\r\n', True),
    ('Cache-Control: max-age=60, private=""\r\n', False),
    ('Cache-Control: max-age=60, private=x-a\r\n', True),
    ('Cache-Control: s-maxage=60, max-age=0\r\n', True),
    ('Cache-Control: s-maxage=x, max-age=60\r\n', False),
    ('Cache-Control: max-age=60\r\nExpires: 0\r\n', True),
    ('Expires: 0\r\n', False),
    ('Cache-Control: max-age=60\r\nPragma: no-cache\r\n', True),
    (YESTERDAY, True),
    (YESTERDAY + 'Cache-Control: must-revalidate\r\n', True),
    (YESTERDAY + 'Cache-Control: no-cache\r\n', False),
    ('Cache-Control: max-age=60, must-understand, no-store\r\n', True),
    ('CDN-Cache-Control: max-age=60\r\nCache-Control: max-age=0\r\nExpires: 0\r\n', True),
    ('CDN-Cache-Control: max-age=0\r\nCache-Control: max-age=60\r\n', False),
    ('CDN-Cache-Control: max-age="60"\r\nCache-Control: max-age=60\r\n', False),
    ('CDN-Cache-Control: max-age=0,\r\nCache-Control: max-age=60\r\n', True),
    ('CDN-Cache-Control: \r\nCache-Control: max-age=60\r\n', True),
    ('CDN-Cache-Control: x\r\nCache-Control: max-age=60\r\n', False),
    ('CDN-Cache-Control: max-age=60\r\nCDN-Cache-Control: no-store\r\n', False),
    ('CDN-Cache-Control: private\r\nCache-Control: max-age=60\r\n', False),
    ('Surrogate-Control: max-age=60\r\nCache-Control: max-age=0\r\n', False),  # not among the targets
])
def test_what_an_answer_allows(origin, fields, hit):
    origin.answers['/'] = answer('x', fields)
    origin.get()
    time.sleep(0.02)
    assert is_hit(origin.get()) == hit


@pytest.mark.parametrize('fields, hit', [
    ('Surrogate-Control: max-age=60\r\nCDN-Cache-Control: no-store\r\n', True),
    ('Surrogate-Control: no-store\r\nCDN-Cache-Control: max-age=60\r\n', False),
    ('Surrogate-Control: no-store-remote\r\nCDN-Cache-Control: max-age=60\r\n', False),
    ('Surrogate-Control: content="ESI/1.0"\r\nCDN-Cache-Control: max-age=60\r\n', True),
    ('Surrogate-Control: max-age=0+60\r\nCDN-Cache-Control: no-store\r\n', True),
    ('Surrogate-Control: max-age=60;other\r\nCDN-Cache-Control: no-store\r\n', False),
    ('Cache-Control: no-store\r\nCDN-Cache-Control: max-age=60\r\n', True),
])
def test_targets_count_in_their_order(world, fields, hit):
    origin = Origin(world, {'targets': ['Surrogate-Control', 'CDN-Cache-Control']})
    origin.answers['/'] = answer('x', fields)
    origin.get()
    time.sleep(0.02)
    assert is_hit(origin.get()) == hit


@pytest.mark.parametrize('said, hit', [
    ('max-age=60', False),
    ('max-age=60, public', True),
    ('max-age=60, must-revalidate', True),
    ('s-maxage=60', True),
    ('max-age=60, proxy-revalidate', True),
    ('max-age=60, public=x', False),
    ('max-age=60, "public"', False),
    ('max-age=60, immutable', False),
    ('s-maxage=x, max-age=60', False),
])
def test_credentials_and_what_lifts_them(origin, said, hit):
    origin.answers['/'] = answer('x', f'Cache-Control: {said}\r\n')
    origin.get('/', 'Authorization: Basic eDp5\r\n')
    time.sleep(0.02)
    assert is_hit(origin.get()) == hit


@pytest.mark.parametrize('status', [401, 403, 429])
def test_what_concerns_one_client_is_not_kept_unasked(world, status):
    origin = Origin(world, {'negative_ttl_ms': 60000, 'ttl_ms': 60000})
    origin.answers['/'] = answer('no', YESTERDAY, f'{status} No')
    for n in range(1, 4):
        assert origin.get().status == status and origin.count('/') == n


def test_fields_that_are_for_one_client_alone_are_not_stored(origin):
    origin.answers['/'] = answer('x', 'Cache-Control: max-age=60, private="X-A, x-b", no-cache="set-cookie"\r\n'
                                      'X-A: 1\r\nX-B: 2\r\nX-C: 3\r\nSet-Cookie: a=b\r\n')
    first = origin.get()
    assert first.fields['x-a'] == '1' and first.fields['set-cookie'] == 'a=b'
    wait_until(lambda: is_hit(origin.get()))
    hit = origin.get()
    assert hit.fields['x-c'] == '3' and not {'x-a', 'x-b', 'set-cookie'} & {n.lower() for n, _ in hit.fields.items}


# ---- Cache-Status ----


def test_what_caches_before_said_is_kept(origin):
    origin.answers['/'] = answer('x', FRESH + 'Cache-Status: Far; hit, Near; fwd=miss\r\n')
    for ours in ('sluice; fwd=uri-miss', 'sluice; hit'):
        far, near = origin.get().fields.all('cache-status')
        assert far == 'Far; hit, Near; fwd=miss' and near.startswith(ours)
        time.sleep(0.05)


def test_errors_of_ours_say_what_the_cache_did(origin):
    response = origin.get('/', 'Cache-Control: only-if-cached\r\n')
    assert response.status == 504 and status_of(response).startswith('sluice; fwd=uri-miss')
    origin.answers['/gone'] = None
    response = origin.get('/gone')
    assert response.status == 502 and status_of(response).startswith('sluice; fwd=uri-miss')


# ---- failing origins ----


def test_an_error_with_a_lifetime_does_not_end_what_may_stand_in(origin):
    origin.answers['/'] = [answer('old', STALE.format(', stale-if-error=60')), answer('', FRESH, '503 Busy')]
    origin.get()
    for _ in range(4):
        assert origin.get().body == b'old'
        time.sleep(0.02)


def test_must_revalidate_wins_over_stale_if_error(origin):
    origin.answers['/'] = [answer('old', STALE.format(', stale-if-error=60, must-revalidate') + 'ETag: "a"\r\n'),
                           answer('', '', '503 Busy')]
    origin.get()
    assert origin.get().status == 503


def test_a_failing_origin_is_left_alone_for_longer_and_longer(origin):
    origin.answers['/'] = [answer('old', STALE.format(', stale-if-error=60')), answer('', '', '503 Busy')]
    origin.get()
    began = time.monotonic()
    while time.monotonic() - began < 4:
        assert origin.get().body == b'old'
        time.sleep(0.01)
    assert 2 <= origin.count('/') <= 8


# ---- ranges ----


def test_many_ranges_of_a_long_body_give_all_of_it(origin):
    body = bytes(range(256)) * 400
    origin.answers['/'] = answer(body, FRESH)
    origin.stored()
    response = origin.get('/', 'Range: bytes=0-40000, 50000-99999\r\n')
    assert response.status == 200 and response.body == body and 'content-range' not in response.fields
    response = origin.get('/', 'Range: bytes=0-9, 50000-50009\r\n')
    assert response.status == 206 and response.fields['content-type'].startswith('multipart/byteranges')
    assert body[:10] in response.body and body[50000:50010] in response.body


@pytest.mark.parametrize('status', ['416 Range Not Satisfiable', '412 Precondition Failed'])
def test_what_follows_from_a_range_or_a_condition_is_not_the_answer_to_others(origin, status):
    origin.answers['/'] = lambda request, n: answer('no', FRESH, status) if 'range' in request.fields else \
        answer('body', FRESH)
    assert origin.get('/', 'Range: bytes=1000-\r\n').status == int(status[:3])
    time.sleep(0.05)
    assert origin.get().body == b'body'


@pytest.mark.parametrize('one, other, same', [
    ('/a/../b', '/b', True), ('/%62', '/b', True), ('/b%2f', '/b%2F', True), ('//b', '/b', True),
    ('/a//b', '/a/b', False), ('/b/', '/b', False), ('/b%2F', '/b/', False), ('/b%3Fx', '/b?x', False),
    ('/b?x=%61', '/b?x=a', False), ('/b?', '/b', False), ('/b;v=1', '/b', False),
])
def test_two_spellings_of_a_target_share_an_answer_where_they_must_be_one(origin, one, other, same):
    origin.backend.script = keep_answering(lambda peer, request: peer.send(answer(request.target, FRESH)))
    first = origin.get(one)
    time.sleep(0.05)
    second = origin.get(other)
    assert is_hit(second) == same and (second.body == first.body) == same
    if not same:
        assert second.body == other.encode()
    origin.get(one, method='PUT')
    assert not is_hit(origin.get(one)), 'it is invalidated by the name it is asked for'


# ---- refreshing behind ----


@pytest.mark.parametrize('tag', ['', 'ETag: "a"\r\n'])
@pytest.mark.parametrize('method, wanted', [('HEAD', ''), ('GET', 'Range: bytes=0-1\r\n'),
                                            ('GET', 'If-None-Match: "a"\r\n'), ('GET', 'If-Range: "a"\r\nRange: bytes=1-\r\n')])
def test_who_asks_for_less_does_not_make_less_be_stored(origin, method, wanted, tag):
    def reply(request, n):
        if n == 0:
            return answer('old!', STALE.format(', stale-while-revalidate=60') + tag)
        if 'range' in request.fields:
            return answer('ne', FRESH + tag + 'Content-Range: bytes 0-1/4\r\n', '206 Partial Content')
        return answer('new!', FRESH + tag)
    origin.answers['/'] = reply
    origin.get()
    origin.get('/', wanted, method=method)
    for _ in range(10):
        response = origin.get()
        assert response.status == 200 and response.body in (b'old!', b'new!')
        time.sleep(0.02)
    assert response.body == b'new!' and is_hit(response)


def test_the_groups_that_a_304_names_are_those_it_is_removed_by(origin):
    origin.answers['/'] = [answer('old', STALE.format('') + 'ETag: "a"\r\nCache-Groups: "one"\r\n'),
                           not_modified(FRESH + 'ETag: "a"\r\nCache-Groups: "two"\r\n'), answer('new', FRESH)]
    for group in ('one', 'two'):
        origin.answers['/' + group] = answer('', f'Cache-Group-Invalidation: "{group}"\r\n')
    origin.get()
    assert 'fwd-status=304' in status_of(origin.get())
    origin.get('/one', method='POST')
    assert is_hit(origin.get())
    origin.get('/two', method='POST')
    assert not is_hit(origin.get())


def many_fields(letter):
    return ''.join(f'X-{letter}{i}: {letter * 100}\r\n' for i in range(50)) + f'X-{letter}: {letter * 5000}\r\n'


@pytest.mark.parametrize('pad', [14900, 15700, 15950])
def test_the_longest_head_is_given_with_all_that_is_added_to_it(origin, pad):
    fields = FRESH + 'ETag: "a"\r\n' + f'X-Pad: {"p" * pad}\r\n'
    origin.answers['/'] = answer('body', fields)
    ids = f'X-Request-Id: {"r" * 100}\r\n'
    whole = origin.get('/', ids)
    assert whole.status == 200 and whole.body == b'body' and whole.fields['x-pad'] == 'p' * pad
    stored = origin.stored('/', ids)
    assert stored.body == b'body' and stored.fields['x-pad'] == 'p' * pad
    assert stored.fields['x-request-id'] == 'r' * 100
    part = origin.get('/', ids + 'Range: bytes=1-2\r\n')
    assert part.status == 206 and part.body == b'od' and part.fields['x-pad'] == 'p' * pad
    assert origin.get('/', ids + 'If-None-Match: "a"\r\n').status == 304


@pytest.mark.parametrize('fresh', [FRESH, FRESH + COOKIE], ids=['for all', 'for one'])
def test_a_304_that_makes_the_head_too_large_is_not_taken_over(origin, fresh):
    whole = answer('body', STALE.format('') + 'ETag: "a"\r\n' + many_fields('a'))
    origin.answers['/'] = by_etag('"a"', whole, fresh + 'ETag: "a"\r\n' + many_fields('b'))
    for _ in range(4):
        response = origin.get()
        assert response.status == 200 and response.body == b'body'


def test_a_rest_that_makes_the_head_too_large_is_not_put_behind(origin):
    def reply(request, n):
        if 'range' not in request.fields:
            return answer('0123456789', FRESH + 'ETag: "a"\r\n')
        first, last, letter = (0, 4, 'a') if n == 0 else (5, 9, 'b')
        return answer('0123456789'[first:last + 1], FRESH + 'ETag: "a"\r\n' + many_fields(letter) +
                      f'Content-Range: bytes {first}-{last}/10\r\n', '206 Partial Content')
    origin.answers['/'] = reply
    origin.get('/', 'Range: bytes=0-4\r\n')
    time.sleep(0.05)
    for _ in range(3):
        response = origin.get()
        assert response.status == 200 and response.body == b'0123456789'
    assert 'range' in origin.of('/')[1].fields


# ---- conditions ----


@pytest.mark.parametrize('fields, status', [
    ('If-None-Match: "a"\r\n', 304),
    ('If-None-Match: W/"a"\r\n', 304),
    ('If-None-Match: a\r\n', 200),
    ('If-None-Match: "b", "a"\r\n', 304),
    ('If-None-Match: "b"\r\nIf-None-Match: "a"\r\n', 304),
    ('If-None-Match: "b,\\"a"\r\n', 200),
    ('If-None-Match: "A"\r\n', 200),
    ('If-None-Match: *\r\n', 304),
    ('If-None-Match: "b", *\r\n', 200),
    ('If-None-Match: \r\n', 200),
    ('If-None-Match: "b"\r\nIf-Modified-Since: Tue, 02 Jan 2024 00:00:00 GMT\r\n', 200),
    ('If-None-Match: "a"\r\nIf-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT\r\n', 304),
    ('If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT\r\n', 304),
    ('If-Modified-Since: Sun, 31 Dec 2023 23:59:59 GMT\r\n', 200),
    ('If-Modified-Since: Monday, 01-Jan-24 00:00:00 GMT\r\n', 304),
    ('If-Modified-Since: Mon Jan  1 00:00:00 2024\r\n', 304),
    ('If-Modified-Since: 2024-01-01T00:00:00Z\r\n', 200),
    ('If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT\r\nIf-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT\r\n', 200),
    ('If-None-Match: "a"\r\nRange: bytes=0-1\r\n', 304),
    ('If-None-Match: "b"\r\nRange: bytes=0-1\r\n', 206),
    ('Range: bytes=0-1\r\nIf-Range: "a"\r\n', 206),
    ('Range: bytes=0-1\r\nIf-Range: W/"a"\r\n', 200),
    ('Range: bytes=0-1\r\nIf-Range: "b"\r\n', 200),
    ('Range: bytes=0-1\r\nIf-Range: Mon, 01 Jan 2024 00:00:00 GMT\r\n', 206),
    ('Range: bytes=0-1\r\nIf-Range: Tue, 02 Jan 2024 00:00:00 GMT\r\n', 200),
    ('Range: bytes=9-\r\nIf-Range: "b"\r\n', 200),
    ('Range: bytes=9-\r\n', 416),
    ('Range: bytes=9-\r\nIf-None-Match: "a"\r\n', 304),
    ('Range: lines=0-1\r\n', 200),
    ('Range: bytes=0-1\r\nRange: bytes=2-3\r\n', 200),
    ('Range: Bytes=0-1\r\n', 206),
    ('Range: bytes=1-0\r\n', 200),
    ('Range: bytes=0-0,0-0,1-1\r\n', 206),
    ('Range: bytes=' + ','.join(f'{i}-{i}' for i in range(40)) + '\r\n', 200),
])
@pytest.mark.parametrize('method', ['GET', 'HEAD'])
def test_conditions_and_ranges_of_what_is_stored(origin, method, fields, status):
    origin.answers['/'] = answer('body', FRESH + 'ETag: "a"\r\n' + YESTERDAY)
    origin.stored()
    response = origin.get('/', fields, method=method)
    expected = 200 if method == 'HEAD' and status in (206, 416) else status
    assert is_hit(response) and response.status == expected
    if expected == 304:
        assert response.fields['etag'] == '"a"' and 'content-type' not in response.fields
        assert 'cache-control' in response.fields and 'date' in response.fields
    assert origin.count('/') == 1


def test_an_answer_that_is_not_kept_leaves_the_other_variants(origin):
    def reply(request, n):
        plan = request.fields.get('x-plan', 'none')
        return answer(plan, ('Cache-Control: max-age=0\r\n' if plan == 'gold' else FRESH) + 'Vary: X-Plan\r\n')
    origin.answers['/'] = reply
    origin.stored()
    for _ in range(2):
        assert origin.get('/', 'X-Plan: gold\r\n').body == b'gold'
        time.sleep(0.02)
        assert is_hit(origin.get()) and is_hit(origin.stored('/', 'X-Plan: silver\r\n'))
    assert origin.count('/') == 4


def test_an_answer_that_is_not_kept_takes_away_what_was(origin):
    origin.answers['/'] = [answer('old', STALE.format(', stale-while-revalidate=60')),
                           answer('new', 'Cache-Control: max-age=0\r\n')]
    origin.get()
    assert origin.get().body == b'old'
    assert wait_until(lambda: origin.get().body == b'new')
    assert origin.get().body == b'new'
