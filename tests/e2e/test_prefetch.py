"""Fetching ahead: what is learned of clients' sequences, what is fetched for it, and what never is.

A walk is one client's requests; walks are told apart by X-Client, so that one does not go on in the next. Three walks
are learned from, the fourth is helped. The cache is emptied between them, so that there is something to fetch."""

import itertools
import json
import threading
import time

import pytest

from backend import keep_answering
from programs import http_route
from rawhttp import Client, get, wait_until

FRESH = 'Cache-Control: max-age=600\r\n'
PUBLIC = 'Cache-Control: public, max-age=600\r\n'


def is_ahead(request):
    return request.fields.get('sec-purpose') == 'prefetch'


def is_hit(response):
    return '; hit' in response.fields['cache-status']


class Site:
    """An origin whose answers are fresh for long, or have the fields that `fields` says by path, and a gateway. What is
    below /slow waits while `hold` is clear."""

    numbers = itertools.count()

    def __init__(self, world, workers=1, cache=None, **prefetch):
        self.asked, self.lock, self.fields = [], threading.Lock(), {}
        self.hold = threading.Event()
        self.hold.set()
        self.backend = world.backend(keep_answering(self.reply))
        route = {**http_route(), 'name': 'site'}
        settings = {'session': 'header:X-Client', 'window_ms': 20000, **prefetch}
        route['http']['cache'] = {'prefetch': settings} if cache is None else cache
        self.gateway = world.gateway([route], endpoints=[self.backend], workers=workers)

    def reply(self, peer, request):
        with self.lock:
            self.asked.append(request)
        path = request.target.split('?')[0]
        if path.startswith('/slow'):
            self.hold.wait(20)
        fields = self.fields.get(path, FRESH)
        if callable(fields):
            fields(peer, request)
        else:
            peer.answer('' if request.method == 'HEAD' else f'this is {request.target}', fields=fields)

    def ahead(self, path=None):
        """What was fetched ahead."""
        with self.lock:
            return [r for r in self.asked if is_ahead(r) and path in (None, r.target)]

    def count(self, path):
        with self.lock:
            return sum(1 for r in self.asked if r.target == path)

    def walk(self, *paths, fields='', host='test', name=None):
        """The answers. A path may be given with its method: 'POST /x'."""
        name = name or f'client-{next(self.numbers)}'
        answers = []
        with Client(self.gateway.address) as client:
            for path in paths:
                method, path = path.split() if ' ' in path else ('GET', path)
                client.send(f'{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-Client: {name}\r\n{fields}\r\n')
                answers.append(client.response(method))
        return answers

    def forget(self):
        """Empties the cache."""
        assert get(self.gateway.admin, '/api/cache?all=true', method='DELETE').status == 200

    def train(self, *paths, times=3, **more):
        for _ in range(times):
            self.walk(*paths, **more)
            self.forget()

    def stats(self):
        routes = json.loads(get(self.gateway.admin, '/api/cache/stats').body)['routes']
        return next(r for r in routes if r['route'] == 'site')

    def figures(self):
        return self.stats()['prefetch']

    def wait_figures(self, **expected):
        return wait_until(lambda: (f := self.figures()) and all(f[k] == v for k, v in expected.items()) and f,
                          what=str(expected))

    def helped(self, *paths, ahead, **more):
        """Walks, and waits until what is likely next has been stored."""
        before = self.stats()['stored'] + self.stats()['updated']
        missed = sum(not is_hit(r) for r in self.walk(*paths, **more))
        wait_until(lambda: self.stats()['stored'] + self.stats()['updated'] >= before + missed + 1,
                   what=f'{ahead} to be stored ahead')
        assert self.ahead(ahead)

    def nothing_ahead(self, *paths, **more):
        """Walks, and what was fetched ahead stays what it was."""
        before = len(self.ahead())
        self.walk(*paths, **more)
        time.sleep(0.15)
        assert len(self.ahead()) == before, self.ahead()


# ---- what is fetched


def test_a_client_finds_the_next_page_before_it_asks(world):
    site = Site(world)
    site.train('/a', '/b', '/c')
    assert not site.ahead()
    site.helped('/a', ahead='/b', name='new')
    asked = site.count('/b')
    assert is_hit(site.walk('/b', name='new')[0]) and site.count('/b') == asked
    wait_until(lambda: site.ahead('/c'), what='/c to be fetched, after a hit')
    site.wait_figures(fetches=2, useful=1, wasted=0, held_back=0, stopped_workers=0)
    wait_until(lambda: is_hit(site.walk('/c', name='new')[0]), what='a hit')
    assert site.wait_figures(useful=2)['precision'] == 1


def test_it_asks_as_the_client_would_but_for_what_is_its_own(world):
    site = Site(world)
    site.train('/a', '/b?x=%20y')
    fields = ('Accept: text/html\r\nAccept-Language: de\r\nAccept-Encoding: gzip\r\nUser-Agent: browser\r\n'
              'X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\nReferer: http://test/secret\r\n'
              'If-None-Match: "x"\r\nCache-Control: max-age=5\r\nX-Token: secret\r\nX-Request-Id: mine\r\n')
    site.helped('/a', ahead='/b?x=%20y', fields=fields)
    request = site.ahead()[0]
    assert request.method == 'GET' and request.fields['host'] == 'test'
    assert request.fields['priority'] == 'u=7' and request.fields['sec-purpose'] == 'prefetch'
    assert request.fields['accept-language'] == 'de' and request.fields['accept'] == 'text/html'
    assert request.fields['accept-encoding'] == 'gzip' and request.fields['user-agent'] == 'browser'
    assert request.fields['x-forwarded-proto'] == 'https'
    assert request.fields['x-request-id'] != 'mine'
    for name in ('x-client', 'x-forwarded-for', 'referer', 'if-none-match', 'cache-control', 'x-token', 'range'):
        assert name not in request.fields, name


def test_the_variant_is_the_clients(world):
    site = Site(world)
    for path in '/a', '/b':
        site.fields[path] = FRESH + 'Vary: Accept-Language\r\n'
    site.train('/a', '/b')
    site.helped('/a', ahead='/b', fields='Accept-Language: fr\r\n')
    assert is_hit(site.walk('/b', fields='Accept-Language: fr\r\n')[0])
    assert not is_hit(site.walk('/b', fields='Accept-Language: de\r\n')[0])


def test_sequences_of_three_tell_what_those_of_two_cannot(world):
    site = Site(world)
    for _ in range(4):
        site.train('/x', '/m', '/a', times=1)
        site.train('/y', '/m', '/b', times=1)
    site.helped('/y', '/m', ahead='/b')
    assert not site.ahead('/a') or site.count('/a') > len(site.ahead('/a'))
    site.forget()
    before = len(site.ahead('/b'))
    site.helped('/x', '/m', ahead='/a')
    assert len(site.ahead('/b')) == before


def test_what_is_stored_and_fresh_is_not_fetched(world):
    site = Site(world)
    site.train('/a', '/b')
    site.walk('/b')
    wait_until(lambda: is_hit(site.walk('/b')[0]), what='a hit')
    site.nothing_ahead('/a')
    assert site.figures()['held_back'] == 0


def test_what_is_stale_is_asked_about(world):
    site = Site(world)

    def reply(peer, request):
        if request.fields.get('if-none-match') == '"b"':
            peer.send(b'HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=600\r\n\r\n')
        else:
            peer.answer('b', fields='Cache-Control: max-age=10\r\nAge: 10\r\nETag: "b"\r\n')
    site.fields['/b'] = reply
    site.train('/a', '/b')
    site.walk('/b')
    wait_until(lambda: site.stats()['stored'] >= 7, what='/b to be stored')
    site.helped('/a', ahead='/b', name='new')
    assert site.ahead('/b')[0].fields['if-none-match'] == '"b"'
    answer, = site.walk('/b', name='new')
    assert is_hit(answer) and answer.body == b'b'
    site.wait_figures(useful=1)


def test_a_client_that_comes_meanwhile_joins(world):
    site = Site(world)
    site.train('/a', '/slow')
    before = site.count('/slow')
    site.hold.clear()
    site.walk('/a')
    wait_until(lambda: site.ahead('/slow'), what='/slow to be fetched')
    answers = []
    client = threading.Thread(target=lambda: answers.extend(site.walk('/slow')))
    client.start()
    time.sleep(0.2)
    site.hold.set()
    client.join(10)
    assert answers[0].body == b'this is /slow' and 'collapsed' in answers[0].fields['cache-status']
    assert site.count('/slow') == before + 1
    site.wait_figures(fetches=1, useful=1)


@pytest.mark.parametrize('workers', [2, 3])
def test_a_use_on_another_worker_counts(world, workers):
    site = Site(world, workers=workers)
    site.train('/a', '/b', times=3 * workers + 6)
    for _ in range(6):
        site.forget()
        site.walk('/a')
        time.sleep(0.05)
        for _ in range(6):
            site.walk('/b')

    def all_useful():
        site.walk('/a', '/other')  # so that each worker looks
        figures = site.figures()
        return figures['fetches'] > 0 and figures['useful'] == figures['fetches']
    wait_until(all_useful, what='all to be useful', seconds=10)


# ---- who and what is never learned


def test_it_is_off_by_default_and_then_says_nothing(world):
    for cache in True, {'prefetch': False}, {'enabled': False, 'prefetch': True}:
        site = Site(world, cache=cache)
        for _ in range(5):
            site.walk('/a', '/b')
            site.forget()
        time.sleep(0.1)
        assert not site.ahead()
        assert 'prefetch' not in get(site.gateway.admin, '/metrics').body.decode()
        assert 'prefetch' not in get(site.gateway.admin, '/api/cache/stats').body.decode()


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS'])
def test_only_get_is_learned(world, method):
    site = Site(world)
    site.fields['/b'] = PUBLIC
    site.train('/a', f'{method} /b', times=6)
    site.nothing_ahead('/a')
    site.train(f'{method} /c', '/d', times=6)
    site.nothing_ahead(f'{method} /c')
    assert not site.ahead()


@pytest.mark.parametrize('fields', ['Authorization: Bearer x\r\n', 'Cookie: session=1\r\n', 'X-Api-Key: x\r\n',
                                    'Range: bytes=0-3\r\n', 'Cache-Control: no-store\r\n'])
def test_credentials_ranges_and_no_store_are_neither_learned_nor_followed(world, fields):
    site = Site(world)
    for path in '/a', '/b', '/c', '/d':
        site.fields[path] = PUBLIC
    site.train('/a', '/b', times=6, fields=fields)
    site.nothing_ahead('/a')
    site.train('/c', '/d')
    site.nothing_ahead('/c', fields=fields)
    assert not site.ahead()
    site.forget()
    site.helped('/c', ahead='/d')


def test_credentials_in_the_key_are_passed_on(world):
    cache = {'key': ['path', 'header:Authorization', 'cookie:plan', 'cookie:lang'],
             'prefetch': {'session': 'cookie:sid', 'window_ms': 20000}}
    site = Site(world, cache=cache)
    for path in '/a', '/b':
        site.fields[path] = PUBLIC
    own = 'Authorization: Bearer x\r\nCookie: sid={}; plan=pro; lang=de\r\n'
    for sid in range(3):
        site.walk('/a', '/b', fields=own.format(sid))
        site.forget()
    site.helped('/a', ahead='/b', fields=own.format(7))
    request = site.ahead()[0]
    assert request.fields['authorization'] == 'Bearer x'
    assert request.fields['cookie'] == 'plan=pro; lang=de', 'who it is for is nobody\'s business'
    assert is_hit(site.walk('/b', fields=own.format(8))[0])
    site.forget()
    for sid in range(20, 26):
        site.nothing_ahead('/a', fields=own.format(sid).replace('lang', 'other'))


def test_what_is_not_stored_is_not_learned(world):
    site = Site(world)
    site.fields['/b'] = 'Cache-Control: private\r\n'
    site.train('/a', '/b', times=6)
    site.nothing_ahead('/a')
    assert not site.ahead()


def test_long_targets_are_not_learned(world):
    site = Site(world)
    longest = '/b' + 'x' * 254
    site.train('/a', longest)
    site.helped('/a', ahead=longest)
    site.train('/c', longest + 'x', times=6)
    site.nothing_ahead('/c')


def test_hosts_and_clients_do_not_mix(world):
    site = Site(world)
    site.train('/a', '/b', host='one')
    site.nothing_ahead('/a', host='two')
    for _ in range(6):  # each its own client
        site.walk('/c')
        site.walk('/d')
        site.forget()
    site.nothing_ahead('/c')
    assert not site.ahead()
    site.forget()
    site.helped('/a', ahead='/b', host='one')
    assert site.ahead()[0].fields['host'] == 'one'


def test_without_a_session_the_address_tells_clients_apart(world):
    site = Site(world, cache={'prefetch': True})
    for _ in range(3):
        for path in '/a', '/b', '/c':
            site.walk(path)  # each on a connection of its own
        site.forget()
    site.helped('/a', ahead='/b')


# ---- with idle capacity only


def test_a_busy_upstream_is_left_alone(world):
    site = Site(world)
    site.train('/a', '/b')
    site.hold.clear()
    slow = threading.Thread(target=site.walk, args=('/slow',))
    slow.start()
    wait_until(lambda: site.count('/slow'), what='/slow to be asked for')
    site.nothing_ahead('/a')
    site.nothing_ahead('/a')
    site.wait_figures(fetches=0, held_back=2)
    site.hold.set()
    slow.join(10)
    site.forget()
    site.helped('/a', ahead='/b')


def test_no_more_are_under_way_than_said(world):
    site = Site(world, in_flight_max=1, busy_percent_max=100)
    for next_page in '/slow/1', '/slow/2':
        site.train(next_page.replace('slow', 'page'), next_page)
    site.hold.clear()
    for page in '/page/1', '/page/2':
        site.walk(page)
    time.sleep(0.1)
    assert len(site.ahead()) == 1
    site.wait_figures(fetches=1, held_back=1)
    site.hold.set()
    wait_until(lambda: site.walk('/page/2') and site.ahead('/slow/2'), what='the next one')


def test_what_it_finds_uncacheable_is_not_asked_for_again(world):
    site = Site(world)
    site.train('/a', '/b', times=3)
    site.fields['/b'] = 'Cache-Control: private\r\n'
    site.walk('/a')
    wait_until(lambda: site.ahead('/b'), what='/b to be fetched')
    time.sleep(0.1)
    for _ in range(3):
        site.nothing_ahead('/a')


def test_a_failing_origin_is_not_pressed(world):
    site = Site(world)
    site.train('/a', '/b', times=3)

    def fail(peer, request):
        peer.reset()
        raise ConnectionError('as the test wants it')
    site.fields['/b'] = fail
    site.walk('/a')
    wait_until(lambda: site.ahead('/b'), what='/b to be fetched')
    time.sleep(0.1)
    site.nothing_ahead('/a')


def test_a_drain_does_not_wait_for_it(world):
    site = Site(world)
    site.train('/a', '/slow')
    site.hold.clear()
    site.walk('/a')
    wait_until(lambda: site.ahead('/slow'), what='/slow to be fetched')
    began = time.monotonic()
    site.gateway.stop()
    assert time.monotonic() - began < 4
    site.hold.set()


# ---- precision


def test_below_the_floor_it_stops_and_tries_again(world):
    site = Site(world, window_ms=300, precision_percent_min=90, confidence_percent=10)
    site.train('/a', '/b', times=24)
    before = site.figures()
    assert before['stopped_workers'] == 0 and before['fetches'] >= 8

    def wasted():
        site.walk('/a')
        site.forget()
        return site.figures()['stopped_workers'] == 1
    wait_until(wasted, what='a stop', seconds=10)
    stopped = site.figures()
    assert stopped['wasted'] > before['wasted']
    for _ in range(5):
        site.nothing_ahead('/a')
        site.forget()
    figures, metrics = site.figures(), site.gateway.metrics()
    assert figures['useful'] + figures['wasted'] == figures['fetches'] == stopped['fetches']
    assert figures['precision'] < 0.9
    assert metrics.value('sluice_cache_prefetch_stopped', route='site') == 1
    assert metrics.value('sluice_cache_prefetches_total', route='site') == figures['fetches']
    for result in 'useful', 'wasted':
        assert metrics.value('sluice_cache_prefetch_results_total', route='site', result=result) == figures[result]

    def tried_again():
        time.sleep(0.2)  # not too often: /a without /b lessens the confidence
        site.walk('/a')
        site.forget()
        return len(site.ahead()) > stopped['fetches']
    wait_until(tried_again, what='another try', seconds=10)
    assert site.figures()['stopped_workers'] == 0
