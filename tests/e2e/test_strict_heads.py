"""Requests that two parsers could read in two ways, or that no parser should read at all: refused, the connection
closed, and never a byte sent on."""

import time

import pytest
from programs import http_route, inference_route, respond_route
from rawhttp import Client, wait_until

# What stands behind the bad head would be a request of its own if the head were misread.
SMUGGLED = b'GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n'

HEADS = {
    'two content-lengths that differ': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc'),
    'two content-lengths that agree': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc'),
    'a list of content-lengths': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 3, 3\r\n\r\nabc'),
    'a content-length with a sign': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: +3\r\n\r\nabc'),
    'a negative content-length': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n'),
    'a content-length in hexadecimal': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 0x3\r\n\r\nabc'),
    'an empty content-length': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length:\r\n\r\n'),
    'a content-length with a space inside': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 1 2\r\n\r\nabc'),
    'a content-length that overflows': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 18446744073709551617\r\n\r\na'),
    'content-length with transfer-encoding': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    'transfer-encoding with content-length': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n'),
    'chunked twice': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n'),
    'chunked on two lines': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    'chunked not last': ((400, 501), 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n'),
    'gzip before chunked': ((400, 501), 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'),
    'an unknown transfer-encoding': ((400, 501), 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'),
    'transfer-encoding identity': ((400, 501), 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: identity\r\n\r\n'),
    'an empty transfer-encoding': ((400, 501), 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n'),
    'chunked in quotes': ((400, 501), 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    'chunked with a parameter': ((400, 501), 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n'),
    'chunked behind a vertical tab': ((400, 501), 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n'),
    'transfer-encoding in HTTP/1.0': (400, 'POST /x HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    'a space before the colon': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nX : y\r\n\r\n'),
    'a space before the colon of transfer-encoding': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n'),
    'a tab before the colon': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length\t: 3\r\n\r\nabc'),
    'a bare LF behind the request line': (400, 'GET /x HTTP/1.1\nHost: t\r\n\r\n'),
    'bare LFs only': (400, 'GET /x HTTP/1.1\nHost: t\n\n'),
    'a bare LF behind a field': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA: b\nTransfer-Encoding: chunked\r\n\r\n'),
    'a bare LF that ends the head': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA: b\r\n\n'),
    'a bare CR in a value': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA: b\rTransfer-Encoding: chunked\r\n\r\n'),
    'a bare CR in the request line': (400, 'GET /x\rHTTP/1.1\r\nHost: t\r\n\r\n'),
    'CR CR LF': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA: b\r\r\n\r\n'),
    'NUL in a value': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA: b\0c\r\n\r\n'),
    'NUL in a name': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA\0: b\r\n\r\n'),
    'NUL in the target': (400, 'GET /\0 HTTP/1.1\r\nHost: t\r\n\r\n'),
    'a control byte in a value': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA: b\x01c\r\n\r\n'),
    'DEL in a value': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA: b\x7fc\r\n\r\n'),
    'obs-fold with a space': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA: b\r\n c\r\n\r\n'),
    'obs-fold with a tab': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA: b\r\n\tc\r\n\r\n'),
    'obs-fold that hides transfer-encoding': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nA: b\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    'transfer-encoding folded': (400, 'POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n'),
    'a space before the first field': (400, 'GET /x HTTP/1.1\r\n Host: t\r\n\r\n'),
    'no host': (400, 'GET /x HTTP/1.1\r\nA: b\r\n\r\n'),
    'two hosts': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nHost: t\r\n\r\n'),
    'a host with a path': (400, 'GET /x HTTP/1.1\r\nHost: t/evil\r\n\r\n'),
    'a host with a user': (400, 'GET /x HTTP/1.1\r\nHost: a@t\r\n\r\n'),
    'a host with a space': (400, 'GET /x HTTP/1.1\r\nHost: a b\r\n\r\n'),
    'a host with a bad port': (400, 'GET /x HTTP/1.1\r\nHost: t:80x\r\n\r\n'),
    'an empty name': (400, 'GET /x HTTP/1.1\r\nHost: t\r\n: b\r\n\r\n'),
    'a name that is no token': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA(b): c\r\n\r\n'),
    'a name with a space': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA b: c\r\n\r\n'),
    'a name with a byte over 127': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nA\xe9: c\r\n\r\n'),
    'a line without a colon': (400, 'GET /x HTTP/1.1\r\nHost: t\r\nnonsense\r\n\r\n'),
    'two spaces in the request line': (400, 'GET  /x HTTP/1.1\r\nHost: t\r\n\r\n'),
    'a tab in the request line': (400, 'GET\t/x HTTP/1.1\r\nHost: t\r\n\r\n'),
    'two spaces before the version': (400, 'GET /x  HTTP/1.1\r\nHost: t\r\n\r\n'),
    'a space behind the version': (400, 'GET /x HTTP/1.1 \r\nHost: t\r\n\r\n'),
    'no version': (400, 'GET /x\r\nHost: t\r\n\r\n'),
    'HTTP/2 over HTTP/1': (505, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    'version 2.0': (505, 'GET /x HTTP/2.0\r\nHost: t\r\n\r\n'),
    'version 1.2': ((400, 505), 'GET /x HTTP/1.2\r\nHost: t\r\n\r\n'),
    'version 1.10': (400, 'GET /x HTTP/1.10\r\nHost: t\r\n\r\n'),
    'a version in lower case': (400, 'GET /x http/1.1\r\nHost: t\r\n\r\n'),
    'an unknown method': (501, 'BREW /x HTTP/1.1\r\nHost: t\r\n\r\n'),
    'a method in lower case': ((400, 501), 'get /x HTTP/1.1\r\nHost: t\r\n\r\n'),
    'a method with a colon': (400, 'GE:T /x HTTP/1.1\r\nHost: t\r\n\r\n'),
    'a target without a slash': (400, 'GET x HTTP/1.1\r\nHost: t\r\n\r\n'),
    'a target with a fragment': (400, 'GET /x#y HTTP/1.1\r\nHost: t\r\n\r\n'),
    'an absolute target with a user': (400, 'GET http://a@t/x HTTP/1.1\r\nHost: t\r\n\r\n'),
    'an absolute target without a host': (400, 'GET http:///x HTTP/1.1\r\nHost: t\r\n\r\n'),
    'TLS': (400, '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'),
    'SSH': (400, 'SSH-2.0-OpenSSH_9.2\r\n'),
    'leading white space': (400, ' GET /x HTTP/1.1\r\nHost: t\r\n\r\n'),
}


@pytest.fixture(scope='module')
def backend(module_world):
    return module_world.backend()


@pytest.fixture(scope='module')
def gateway(module_world, backend):
    return module_world.gateway(endpoints=[backend], routes=[
        http_route(), inference_route(path='/v1'), respond_route('/fixed', body='fixed')])


@pytest.mark.parametrize('cut', ['whole', 'in two', 'by bytes'])
@pytest.mark.parametrize('name', HEADS)
def test_refused_and_closed_and_never_a_byte_to_the_backend(gateway, backend, name, cut):
    statuses, head = HEADS[name]
    statuses = statuses if isinstance(statuses, tuple) else (statuses,)
    before = backend.received
    with Client(gateway.address) as client:
        data = head.encode('latin-1') + SMUGGLED
        try:
            if cut == 'whole':
                client.send(data)
            elif cut == 'in two':
                client.send(data[:len(data) // 2])
                client.is_open(0.005)
                client.send(data[len(data) // 2:])
            else:
                client.send_slowly(data, pause=0)
        except ConnectionError:
            pass  # it has closed already; the answer is there all the same
        response = client.response()
        assert response.status in statuses, response
        assert not response.keeps_alive()
        assert 'x-request-id' in response.fields and 'date' in response.fields
        client.half_close()
        assert client.end() == 'fin'
    assert backend.received == before


def test_the_requests_before_a_bad_one_are_answered(gateway, backend):
    with Client(gateway.address) as client:
        client.send('GET /fixed HTTP/1.1\r\nHost: t\r\n\r\nGET /1 HTTP/1.1\r\nHost: t\r\n\r\n'
                    'GET /2 HTTP/1.1\r\nHost: t\r\nA : b\r\n\r\nGET /3 HTTP/1.1\r\nHost: t\r\n\r\n')
        assert client.response().body == b'fixed'
        assert client.response().body == b'ok'
        assert client.response().status == 400
        assert client.end() == 'fin'
    assert [r.target for r in backend.requests if r.target in ('/1', '/2', '/3')] == ['/1']


def test_fields_with_an_underscore_are_dropped(gateway, backend):
    with Client(gateway.address) as client:
        assert client.request('GET /under HTTP/1.1\r\nHost: t\r\nX_Evil: 1\r\nContent_Length: 5\r\nX-Good: 2\r\n\r\n').status == 200
    request = next(r for r in backend.requests if r.target == '/under')
    assert 'x_evil' not in request.fields and 'content_length' not in request.fields
    assert request.fields['x-good'] == '2'


def test_empty_lines_before_a_request_are_skipped(gateway):
    with Client(gateway.address) as client:
        assert client.request('\r\n\r\nGET /fixed HTTP/1.1\r\nHost: t\r\n\r\n').body == b'fixed'
        assert client.request('\r\nGET /fixed HTTP/1.1\r\nHost: t\r\n\r\n').body == b'fixed'


def test_what_is_allowed_passes_as_it_was(gateway, backend):
    """Bytes over 127 in values, empty values, tabs inside, odd token characters: strange but not wrong."""
    with Client(gateway.address) as client:
        response = client.request('GET /odd?a=b HTTP/1.1\r\nHost: t\r\nX-High: caf\xe9\r\nX-Empty:\r\nX-Tab: a\tb\r\n'
                                  "!#$%&'*+-.^`|~: odd\r\nX-Space:    around   \r\n\r\n")
        assert response.status == 200
    request = next(r for r in backend.requests if r.target == '/odd?a=b')
    assert request.fields['x-high'] == 'caf\xe9'
    assert request.fields['x-empty'] == ''
    assert request.fields['x-tab'] == 'a\tb'
    assert request.fields["!#$%&'*+-.^`|~"] == 'odd'
    assert request.fields['x-space'] == 'around'


# ---- limits

def test_limits_of_a_head_have_their_own_answers(world):
    backend = world.backend()
    gateway = world.gateway(endpoints=[backend], limits={
        'head_bytes_max': 2048, 'target_bytes_max': 512, 'fields_max': 20})
    cases = {
        414: f'GET /{"a" * 600} HTTP/1.1\r\nHost: t\r\n\r\n',
        431: f'GET / HTTP/1.1\r\nHost: t\r\nA: {"a" * 3000}\r\n\r\n',
    }
    many = 'GET / HTTP/1.1\r\nHost: t\r\n' + ''.join(f'A{i}: b\r\n' for i in range(30)) + '\r\n'
    for status, head in [*cases.items(), (431, many), (431, 'GET / HTTP/1.1\r\nHost: t\r\n' + 'A: b\r\n' * 400)]:
        with Client(gateway.address) as client:
            response = client.request(head)
            assert response.status == status
            assert not response.keeps_alive()
            assert client.end() == 'fin'
    assert backend.received == 0
    with Client(gateway.address) as client:  # just within
        assert client.request(f'GET /{"a" * 500} HTTP/1.1\r\nHost: t\r\nA: {"a" * 1400}\r\n\r\n').status == 200
        fields = ''.join(f'A{i}: b\r\n' for i in range(19))
        assert client.request(f'GET / HTTP/1.1\r\nHost: t\r\n{fields}\r\n').status == 200


def test_an_endless_target_is_cut_off_at_the_limit(world):
    gateway = world.gateway(routes=[respond_route('/')])
    with Client(gateway.address) as client:
        try:
            client.send('GET /')
            for _ in range(64):
                client.send('a' * 1024)
        except ConnectionError:
            pass
        assert client.response().status == 414


def test_a_head_that_does_not_arrive_in_time_gets_408(world):
    gateway = world.gateway(routes=[respond_route('/', body='hi')], limits={'head_timeout_ms': 300})
    with Client(gateway.address) as client:
        client.send('GET / HTTP/1.1\r\nHost:')
        response = client.response()
        assert response.status == 408 and not response.keeps_alive()
        assert client.end() == 'fin'
    with Client(gateway.address) as client:  # who says nothing at all is closed without a word
        assert client.end() == 'fin'
    with Client(gateway.address) as client:  # bytes that trickle in do not extend it
        try:
            client.send_slowly('GET / HTTP/1.1\r\nHost: t\r\nA: ' + 'b' * 1000, pause=0.01)
        except ConnectionError:
            pass
        assert client.response().status == 408
    with Client(gateway.address) as client:  # and it counts for the second request as for the first
        assert client.request('GET / HTTP/1.1\r\nHost: t\r\n\r\n').body == b'hi'
        client.send('GET / HT')
        assert client.response().status == 408
    assert gateway.metrics().value('errors_total', type='client_timeout') == 3


def test_an_idle_connection_is_closed_after_its_time(world):
    gateway = world.gateway(routes=[respond_route('/', body='hi')], limits={'idle_timeout_ms': 300})
    with Client(gateway.address) as client:
        assert client.request('GET / HTTP/1.1\r\nHost: t\r\n\r\n').body == b'hi'
        assert client.is_open(0.1)
        assert client.request('GET / HTTP/1.1\r\nHost: t\r\n\r\n').body == b'hi'
        start = time.monotonic()
        assert client.end() == 'fin'
        assert 0.25 < time.monotonic() - start < 2
    wait_until(lambda: gateway.metrics().value('active_connections') == 1, what='only the scraper is left')


# ---- slow and cut

def test_a_head_that_comes_byte_by_byte_is_read(gateway, backend):
    with Client(gateway.address) as client:
        client.send_slowly('GET /slow HTTP/1.1\r\nHost: t\r\nX-Long: ' + 'v' * 200 + '\r\n\r\n', pause=0.001)
        assert client.response().body == b'ok'
        client.send_slowly('GET /fixed HTTP/1.1\r\nHost: t\r\n\r\n', pause=0.001)
        assert client.response().body == b'fixed'
    assert next(r for r in backend.requests if r.target == '/slow').fields['x-long'] == 'v' * 200


def test_a_client_that_leaves_in_the_middle_of_a_head_costs_nothing(gateway, backend):
    before = backend.received
    for how in ('fin', 'reset'):
        for _ in range(20):
            client = Client(gateway.address)
            client.send('GET /left HTTP/1.1\r\nHo')
            client.reset() if how == 'reset' else client.close()
    wait_until(lambda: gateway.metrics().value('active_connections') == 1, what='they are forgotten')
    assert backend.received == before
