"""Which request goes where."""

import json

import pytest
from programs import http_route, respond_route
from rawhttp import Client, get


@pytest.fixture(scope='module')
def gateway(module_world):
    backend = module_world.sim()
    respond = lambda body, **route: {**route, 'respond': {'body': body}}  # noqa: E731
    return module_world.gateway(
        endpoints=[backend.address],
        routes=[
            respond('exact', path='/exact'),
            respond('prefix', path_prefix='/v1'),
            respond('longer', path_prefix='/v1/chat'),
            respond('exact before prefix', path='/v1/chat/exact'),
            respond('host', path='/who', host='api.example.com'),
            respond('wildcard', path='/who', host='*.example.com'),
            respond('wildcard deeper', path='/who', host='*.eu.example.com'),
            respond('anyone', path='/who'),
            respond('read', path='/things', methods=['GET']),
            respond('made', path='/things', methods=['POST']),
            respond('spaced', path='/a%20b'),
            {'path': '/teapot', 'respond': {'status': 418, 'content_type': 'application/json', 'body': '{"short":true}',
                                            'headers': {'X-Kind': 'pot', 'Cache-Control': 'no-store'}}},
            {'path': '/nothing', 'respond': {'status': 204}},
            {'path': '/moved', 'respond': {'status': 301, 'headers': {'Location': '/exact'}}},
            respond_route('/large', body='x' * 200_000),
            http_route(path='/echo'),
        ])


def body_of(gateway, path, host='test'):
    response = get(gateway.address, path, host)
    assert response.status == 200, response
    return response.body.decode()


def test_an_exact_path_is_taken_by_its_route_alone(gateway):
    assert body_of(gateway, '/exact') == 'exact'
    assert get(gateway.address, '/exact/').status == 404
    assert get(gateway.address, '/exac').status == 404
    assert get(gateway.address, '/Exact').status == 404


def test_a_query_does_not_matter_for_routing(gateway):
    assert body_of(gateway, '/exact?a=/v1') == 'exact'
    assert body_of(gateway, '/exact?') == 'exact'


def test_a_prefix_takes_whole_segments(gateway):
    assert body_of(gateway, '/v1') == 'prefix'
    assert body_of(gateway, '/v1/') == 'prefix'
    assert body_of(gateway, '/v1/models') == 'prefix'
    assert get(gateway.address, '/v1x').status == 404


def test_the_longest_prefix_wins_and_an_exact_path_over_it(gateway):
    assert body_of(gateway, '/v1/chat/completions') == 'longer'
    assert body_of(gateway, '/v1/chatter') == 'prefix'
    assert body_of(gateway, '/v1/chat/exact') == 'exact before prefix'


@pytest.mark.parametrize('host,who', [
    ('api.example.com', 'host'), ('API.Example.COM', 'host'), ('api.example.com:8080', 'host'),
    ('www.example.com', 'wildcard'), ('a.b.example.com', 'wildcard'), ('a.eu.example.com', 'wildcard deeper'),
    ('example.com', 'anyone'), ('notexample.com', 'anyone'), ('127.0.0.1', 'anyone'), ('[::1]:80', 'anyone'),
])
def test_the_most_specific_host_takes_a_request(gateway, host, who):
    assert body_of(gateway, '/who', host) == who


def test_routes_differ_by_method(gateway):
    assert body_of(gateway, '/things') == 'read'
    with Client(gateway.address) as client:
        made = client.request('POST /things HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc')
        assert made.body == b'made'
        assert client.request('HEAD /things HTTP/1.1\r\nHost: test\r\n\r\n').status == 200


def test_a_method_that_no_route_takes_gets_405_with_allow(gateway):
    response = get(gateway.address, '/things', method='DELETE')
    assert response.status == 405
    assert {m.strip() for m in response.fields['allow'].split(',')} == {'GET', 'HEAD', 'POST'}
    assert response.body.startswith(b'405 Method Not Allowed')


def test_a_path_that_no_route_takes_gets_404_and_the_connection_stays(gateway):
    with Client(gateway.address) as client:
        for _ in range(2):
            response = client.request('GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n')
            assert response.status == 404
            assert response.fields['content-type'].startswith('text/plain')
            assert response.keeps_alive()


def test_who_asks_for_json_gets_404_as_json(gateway):
    response = get(gateway.address, '/nowhere', fields='Accept: application/json\r\n')
    assert response.status == 404
    error = json.loads(response.body)['error']
    assert error['code'] == 'not_found' and error['message'] and error['type'] == 'not_found_error'


def test_a_fixed_answer_has_its_status_type_headers_and_length(gateway):
    response = get(gateway.address, '/teapot')
    assert response.status == 418
    assert response.body == b'{"short":true}'
    assert response.fields['content-type'] == 'application/json'
    assert response.fields['x-kind'] == 'pot'
    assert response.fields['cache-control'] == 'no-store'
    assert response.fields['content-length'] == '14'
    assert response.fields['date'].endswith(' GMT')
    assert len(response.fields['x-request-id']) >= 16


def test_a_redirect_names_its_location(gateway):
    response = get(gateway.address, '/moved')
    assert response.status == 301 and response.fields['location'] == '/exact' and response.body == b''


def test_head_gets_the_head_of_get_and_no_body(gateway):
    with Client(gateway.address) as client:
        head = client.request('HEAD /teapot HTTP/1.1\r\nHost: test\r\n\r\n')
        assert head.status == 418 and head.fields['content-length'] == '14'
        head = client.request('HEAD /large HTTP/1.1\r\nHost: test\r\n\r\n')
        assert head.fields['content-length'] == '200000'
        head = client.request('HEAD /nowhere HTTP/1.1\r\nHost: test\r\n\r\n')
        assert head.status == 404
        assert client.request('GET /exact HTTP/1.1\r\nHost: test\r\n\r\n').body == b'exact'


def test_204_has_neither_body_nor_length(gateway):
    with Client(gateway.address) as client:
        response = client.request('GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n')
        assert response.status == 204
        assert 'content-length' not in response.fields and 'content-type' not in response.fields
        assert client.request('GET /exact HTTP/1.1\r\nHost: test\r\n\r\n').body == b'exact'


def test_a_large_fixed_answer_comes_whole(gateway):
    with Client(gateway.address) as client:
        for _ in range(5):
            assert client.request('GET /large HTTP/1.1\r\nHost: test\r\n\r\n').body == b'x' * 200_000


def test_options_asterisk_is_answered_by_the_gateway_itself(gateway):
    with Client(gateway.address) as client:
        response = client.request('OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n')
        assert response.status in (200, 204)
        assert 'GET' in response.fields['allow']
        assert client.request('GET /exact HTTP/1.1\r\nHost: test\r\n\r\n').body == b'exact'


def test_the_body_of_an_options_asterisk_is_not_the_next_request(gateway):
    inner = 'GET /exact HTTP/1.1\r\nHost: test\r\n\r\n'
    with Client(gateway.address) as client:
        response = client.request(f'OPTIONS * HTTP/1.1\r\nHost: test\r\nContent-Length: {len(inner)}\r\n\r\n{inner}')
        assert response.status == 204 and not response.keeps_alive()
        assert client.end() == 'fin'


def test_an_asterisk_is_for_options_alone(gateway):
    with Client(gateway.address) as client:
        assert client.request('GET * HTTP/1.1\r\nHost: test\r\n\r\n').status == 400


@pytest.mark.parametrize('target,who', [
    ('/a/../exact', 'exact'), ('/./exact', 'exact'), ('/%65xact', 'exact'), ('/a/%2e%2e/exact', 'exact'),
    ('/a/.%2E/exact', 'exact'), ('//exact', 'exact'), ('/v1/../exact', 'exact'), ('/v1//chat//completions', 'longer'),
    ('/v1/chat/../models', 'prefix'), ('/a%20b', 'spaced'), ('/v1/%63hat/x', 'longer'),
])
def test_paths_are_compared_normalized(gateway, target, who):
    response = get(gateway.address, target)
    assert (response.status, response.body.decode()) == (200, who), response


@pytest.mark.parametrize('target', ['/../exact', '/a/../../exact', '/%2e%2e/exact', '/%', '/%4', '/%zz', '/%00', '/a%00b'])
def test_a_path_that_leaves_the_root_or_is_badly_encoded_is_refused(gateway, target):
    assert get(gateway.address, target).status == 400


def test_an_encoded_slash_does_not_separate_segments(gateway):
    assert get(gateway.address, '/v1%2fchat').status == 404


def test_the_target_goes_upstream_as_it_was_sent(gateway):
    echoed = json.loads(get(gateway.address, '/echo/%41/b%2Fc?q=%20x&y').body)
    assert echoed['target'] == '/echo/%41/b%2Fc?q=%20x&y'


@pytest.mark.parametrize('target,upstream', [
    ('/exact/../echo/x', '/echo/x'), ('/exact//%2e%2E//echo/./%41?a/../b', '/echo/A?a/../b'), ('//echo/x', '/echo/x'),
    ('/echo//x', '/echo//x'), ('/echo/%c3%a4', '/echo/%c3%a4'),
])
def test_a_target_that_a_backend_may_read_otherwise_goes_upstream_as_the_routes_read_it(gateway, target, upstream):
    assert json.loads(get(gateway.address, target).body)['target'] == upstream


def test_an_absolute_target_wins_over_host_which_is_rewritten(gateway):
    with Client(gateway.address) as client:
        request = 'GET http://{}/who HTTP/1.1\r\nHost: {}\r\n\r\n'
        assert client.request(request.format('api.example.com', 'other.org')).body == b'host'
        assert client.request(request.format('other.org', 'api.example.com')).body == b'anyone'
        echoed = client.request('GET http://api.example.com:81/echo?x=1 HTTP/1.1\r\nHost: other.org\r\n\r\n')
        echoed = json.loads(echoed.body)
        assert echoed['target'] == '/echo?x=1'
        assert [v for n, v in echoed['headers'] if n.lower() == 'host'] == ['api.example.com:81']


def test_connect_and_trace_are_refused(gateway):
    with Client(gateway.address) as client:
        assert client.request('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n').status in (405, 501)
        assert client.end() == 'fin'
    with Client(gateway.address) as client:
        assert client.request('TRACE /exact HTTP/1.1\r\nHost: test\r\n\r\n').status in (405, 501)


def test_a_request_id_is_made_or_taken_over(gateway):
    first, second = (get(gateway.address, '/exact').fields['x-request-id'] for _ in range(2))
    assert first != second
    assert get(gateway.address, '/exact', fields='X-Request-Id: mine-1\r\n').fields['x-request-id'] == 'mine-1'
    long = get(gateway.address, '/exact', fields=f'X-Request-Id: {"a" * 500}\r\n').fields['x-request-id']
    assert long != 'a' * 500 and len(long) <= 128


@pytest.mark.parametrize('method', ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND'])
def test_every_method_passes_to_a_backend(gateway, method):
    with Client(gateway.address) as client:
        echoed = json.loads(client.request(f'{method} /echo HTTP/1.1\r\nHost: test\r\n\r\n').body)
        assert echoed['method'] == method


def test_a_fixed_answer_may_follow_a_request_body(gateway):
    with Client(gateway.address) as client:
        body = b'y' * 300_000
        client.send(f'PUT /exact HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n'.encode() + body)
        assert client.response().body == b'exact'
        client.send('PUT /exact HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n')
        assert client.response().body == b'exact'
        assert client.request('GET /v1 HTTP/1.1\r\nHost: test\r\n\r\n').body == b'prefix'
