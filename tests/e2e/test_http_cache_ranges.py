"""Ranges from the cache of `http` routes, and parts that are stored (RFC 9110 §14, RFC 9111 §3.3, §3.4)."""

import re

import pytest

from rawhttp import Client
from test_http_cache import FRESH, Origin, answer, is_hit, status_of

WHOLE = bytes(i * 11 % 251 for i in range(100_000))
TAG = 'ETag: "a"\r\n'


def part(first, last, body=WHOLE, fields=FRESH + TAG):
    return answer(body[first:last + 1], f'Content-Range: bytes {first}-{last}/{len(body)}\r\n{fields}',
                  '206 Partial Content')


def by_range(body=WHOLE, fields=FRESH + TAG, tag='"a"'):
    """An origin that knows single ranges and If-Range."""
    def reply(request, n):
        match = re.match(r'bytes=(\d+)-(\d*)$', request.fields.get('range', ''))
        if not match or request.fields.get('if-range', tag) != tag:
            return answer(body, fields)
        return part(int(match[1]), int(match[2] or len(body) - 1), body, fields)
    return reply


@pytest.fixture
def origin(world):
    it = Origin(world)
    it.answers['/'] = by_range()
    return it


def ask(origin, wanted, more=''):
    return origin.get('/', f'Range: bytes={wanted}\r\n{more}')


@pytest.mark.parametrize('wanted, first, last', [('0-0', 0, 0), ('5-9', 5, 9), ('99990-', 99990, 99999),
                                                 ('-7', 99993, 99999), ('0-', 0, 99999), ('50-60000', 50, 60000),
                                                 ('90000-200000', 90000, 99999)])
def test_a_range_of_what_is_stored_whole(origin, wanted, first, last):
    origin.stored()
    response = ask(origin, wanted)
    assert response.status == 206 and is_hit(response)
    assert response.fields['content-range'] == f'bytes {first}-{last}/100000'
    assert response.body == WHOLE[first:last + 1]
    assert origin.count('/') == 1


def test_several_ranges(origin):
    origin.answers['/'] = by_range(fields=FRESH + TAG + 'Content-Type: text/x\r\n')
    origin.stored()
    response = ask(origin, '0-4,10-14')
    assert response.status == 206 and 'content-range' not in response.fields
    boundary = re.match(r'multipart/byteranges; boundary=(\S+)', response.fields['content-type'])[1].encode()
    parts = response.body.split(b'--' + boundary)
    assert parts[3].strip() == b'--' and b'text/x' in parts[1]
    assert parts[1].endswith(b'\r\n\r\n' + WHOLE[0:5] + b'\r\n') and b'bytes 0-4/100000' in parts[1]
    assert parts[2].endswith(b'\r\n\r\n' + WHOLE[10:15] + b'\r\n') and b'bytes 10-14/100000' in parts[2]


def test_a_range_beyond_the_end(origin):
    origin.stored()
    response = ask(origin, '100000-')
    assert response.status == 416 and response.fields['content-range'] == 'bytes */100000'
    assert ask(origin, 'nonsense').status == 200


def test_if_range(origin):
    origin.stored()
    assert ask(origin, '0-4', 'If-Range: "a"\r\n').status == 206
    assert ask(origin, '0-4', 'If-Range: "b"\r\n').body == WHOLE


def test_a_part_is_stored_and_serves_what_it_holds(origin):
    first = ask(origin, '1000-1999')
    assert first.status == 206 and first.body == WHOLE[1000:2000] and 'stored' in status_of(first)
    for wanted, a, b in (('1000-1999', 1000, 1999), ('1500-1501', 1500, 1501)):
        response = ask(origin, wanted)
        assert response.status == 206 and is_hit(response) and response.body == WHOLE[a:b + 1]
        assert response.fields['content-range'] == f'bytes {a}-{b}/100000'
    assert ask(origin, '100000-').status == 416
    assert origin.count('/') == 1


def test_a_part_is_never_given_for_the_whole(origin):
    ask(origin, '1000-1999')
    response = origin.get()
    assert response.status == 200 and response.body == WHOLE
    assert is_hit(origin.stored())
    assert ask(origin, '0-9').body == WHOLE[:10]
    assert origin.count('/') == 2


def test_a_head_does_not_take_a_part_for_the_whole(origin):
    ask(origin, '1000-1999')
    origin.answers['/'] = b'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n'
    assert origin.get(method='HEAD').fields['content-length'] == '100000'
    assert origin.count('/') == 2


def test_parts_that_touch_are_joined(origin):
    ask(origin, '1000-1999')
    assert ask(origin, '1500-2999').body == WHOLE[1500:3000]
    assert ask(origin, '500-999').body == WHOLE[500:1000]
    assert origin.count('/') == 3
    response = ask(origin, '500-2999')
    assert is_hit(response) and response.body == WHOLE[500:3000]
    assert origin.count('/') == 3


def test_parts_make_a_whole(origin):
    ask(origin, '0-49999')
    ask(origin, '50000-99999')
    response = origin.get()
    assert is_hit(response) and response.status == 200 and response.body == WHOLE
    assert 'content-range' not in response.fields


def test_what_is_missing_is_asked_for(origin):
    ask(origin, '0-29999')
    response = origin.get()
    assert response.status == 200 and response.body == WHOLE and 'fwd=partial; fwd-status=206' in status_of(response)
    asked = origin.of('/')[1]
    assert asked.fields['range'] == 'bytes=30000-' and asked.fields['if-range'] == '"a"'
    again = origin.stored()
    assert again.body == WHOLE and again.status == 200 and 'content-range' not in again.fields
    assert origin.count('/') == 2


def test_what_has_changed_meanwhile_is_not_mixed(origin):
    ask(origin, '0-29999')
    other = bytes(reversed(WHOLE))
    origin.answers['/'] = by_range(other, FRESH + 'ETag: "b"\r\n', '"b"')
    assert origin.get().body == other
    assert origin.stored().body == other


def test_an_origin_that_ignores_if_range_is_asked_again(origin):
    ask(origin, '0-29999')
    other = bytes(reversed(WHOLE))

    def careless(request, n):
        if 'range' in request.fields:
            return part(30000, 99999, other, FRESH + 'ETag: "b"\r\n')
        return answer(other, FRESH + 'ETag: "b"\r\n')
    origin.answers['/'] = careless
    response = origin.get()
    assert response.status == 200 and response.body == other
    assert origin.count('/') == 3


def test_parts_of_two_representations_are_not_joined(origin):
    ask(origin, '0-999')
    other = bytes(reversed(WHOLE))
    origin.answers['/'] = by_range(other, FRESH + 'ETag: "b"\r\n', '"b"')
    assert ask(origin, '1000-1999').body == other[1000:2000]
    response = ask(origin, '0-999')
    assert response.body == other[:1000]


def test_parts_without_a_strong_validator_are_not_joined(origin):
    origin.answers['/'] = by_range(fields=FRESH + 'ETag: W/"a"\r\n')
    ask(origin, '0-999')
    assert is_hit(ask(origin, '0-99'))
    ask(origin, '1000-1999')
    assert not is_hit(ask(origin, '500-1500'))
    assert origin.get().body == WHOLE
    assert all('if-range' not in r.fields for r in origin.of('/'))


def test_a_stale_part_is_not_used(origin):
    origin.answers['/'] = by_range(fields='Cache-Control: max-age=10\r\nAge: 10\r\n' + TAG)
    for n in (1, 2):
        assert ask(origin, '0-9').body == WHOLE[:10]
        assert origin.count('/') == n


def test_a_part_that_does_not_hold_what_it_says_is_not_stored(origin):
    origin.answers['/'] = lambda request, n: answer(b'abc', FRESH + TAG + 'Content-Range: bytes 0-9/100\r\n',
                                                    '206 Partial Content')
    for n in (1, 2):
        assert ask(origin, '0-9').body == b'abc'
        assert origin.count('/') == n


def test_invalidation_meets_parts(origin):
    ask(origin, '0-999')
    assert is_hit(ask(origin, '0-9'))
    origin.get(method='PUT')
    assert not is_hit(ask(origin, '0-9'))


def test_a_small_range_keeps_the_connection(origin):
    origin.stored()
    with Client(origin.gateway.address) as client:
        for wanted in ('0-9', '20-70000', '5-6'):
            first, last = map(int, wanted.split('-'))
            response = client.request(f'GET / HTTP/1.1\r\nHost: test\r\nRange: bytes={wanted}\r\n\r\n')
            assert response.body == WHOLE[first:last + 1]
    assert origin.count('/') == 1
