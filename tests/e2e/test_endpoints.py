"""Several backends behind one upstream: how the scheduler shares the work out among them."""

import json
import threading
import time

import pytest
from backend import keep_answering
from programs import http_route, inference_route
from rawhttp import get, post, wait_until

CHAT = '/v1/chat/completions'


class Server:
    """A backend that knows how many requests it has at a time. `room`: beyond so many it says 503."""

    def __init__(self, world, takes=0.02, room=None, fields=''):
        self.takes, self.room, self.fields = takes, room, fields
        self.lock = threading.Lock()
        self.now = self.most = self.served = self.refused = 0
        self.refused_at = []
        self.backend = world.backend(keep_answering(self.answer))

    def answer(self, peer, request):
        if request.target == '/v1/models':
            peer.answer('{"object": "list", "data": [{"id": "m", "object": "model"}]}')
            return
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            fits = self.room is None or self.now <= self.room
        if fits:
            time.sleep(self.takes)
        with self.lock:
            self.now -= 1  # before the answer: after it the next one may come at once
            self.served += fits
            self.refused += not fits
            if not fits:
                self.refused_at.append(time.monotonic())
        if fits:
            peer.answer('{}')
        else:
            peer.answer('no', status='503 Busy', fields=self.fields)


def load(gateway, clients, seconds, kind='http'):
    """So many clients that ask one after the other. Gives all statuses."""
    statuses = []
    end = time.monotonic() + seconds

    def client():
        while time.monotonic() < end:
            if kind == 'http':
                statuses.append(get(gateway.address, '/x').status)
            else:
                statuses.append(post(gateway.address, CHAT, '{"model": "m", "messages": []}',
                                     fields='Content-Type: application/json\r\n').status)
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return statuses


def start(world, servers, kind='http', workers=1, **scheduling):
    endpoints = [s.backend if isinstance(s, Server) else s for s in servers]
    return world.gateway([http_route() if kind == 'http' else inference_route()], endpoints=endpoints, workers=workers,
                         upstream={'scheduling': scheduling}, cache={'memory': 0})


def settled(gateway):
    wait_until(lambda: gateway.metrics().value('sluice_sched_grants_outstanding') == 0, what='no grant is outstanding')


def told(gateway):
    """What /api/performance says of the endpoints of the only model; None as long as there is none."""
    models = json.loads(get(gateway.admin, '/api/performance').body)['models']
    return models[0]['endpoints'] if models else None


@pytest.mark.parametrize('kind', ['http', 'inference'])
@pytest.mark.parametrize('workers', [1, 3])
def test_a_configured_limit_of_each_is_never_passed(world, kind, workers):
    servers = [Server(world), Server(world)]
    gateway = start(world, servers, kind, workers, endpoint_concurrency_max=3)
    statuses = load(gateway, 16, 2, kind)
    assert set(statuses) == {200}
    assert [s.most for s in servers] == [3, 3]
    assert min(s.served for s in servers) > 0.3 * len(statuses)
    settled(gateway)
    wait_until(lambda: told(gateway) is not None, what='the figures of the endpoints')
    assert [e['endpoint'] for e in told(gateway)] == [s.backend.address for s in servers]
    assert [(e['limit'], e['cuts'], e['paused_ms']) for e in told(gateway)] == [(3, 0, 0)] * 2
    wait_until(lambda: [e['in_flight'] for e in told(gateway)] == [0, 0], what='nothing is in flight')
    for server in servers:
        assert gateway.metrics().value('sluice_sched_endpoint_limit', endpoint=server.backend.address) == 3


@pytest.mark.parametrize('workers', [1, 3])
def test_one_endpoint_alone_keeps_the_configured_limit_too(world, workers):
    server = Server(world)
    gateway = start(world, [server], workers=workers, endpoint_concurrency_max=3)
    assert set(load(gateway, 12, 1)) == {200}
    assert server.most == 3
    settled(gateway)


@pytest.mark.parametrize('workers', [1, 3])
def test_one_that_refuses_beyond_what_it_can_take_gets_less_and_the_other_the_rest(world, workers):
    small, large = Server(world, room=2), Server(world)
    gateway = start(world, [small, large], workers=workers)
    load(gateway, 24, 1)
    before = small.refused, small.served, large.served
    statuses = load(gateway, 24, 4)
    refused, little, most = (now - then for now, then in zip((small.refused, small.served, large.served), before))
    assert most > 3 * little > 0
    assert refused < 0.05 * len(statuses)
    assert statuses.count(200) == little + most
    settled(gateway)


@pytest.mark.parametrize('workers', [1, 3])
def test_one_that_always_refuses_is_asked_ever_more_seldom(world, workers):
    bad, good = Server(world, room=0), Server(world)
    gateway = start(world, [bad, good], workers=workers)
    statuses = load(gateway, 8, 6)
    assert good.served > 500 and statuses.count(200) == good.served
    late = [t for t in bad.refused_at if t > bad.refused_at[0] + 1]
    assert 1 <= len(late) < 10  # it has no load, and would look like the best of all
    settled(gateway)
    first, second = told(gateway)
    assert first['cuts'] > 0 and 1 <= first['limit'] < 8 and (second['cuts'], second['limit']) == (0, None)
    metrics = gateway.metrics()
    assert metrics.value('sluice_sched_endpoint_cuts_total', endpoint=bad.backend.address) >= first['cuts']
    assert metrics.labels('sluice_sched_endpoint_limit', 'endpoint') == {bad.backend.address}


def test_a_pause_that_one_asks_for_is_its_own(world):
    bad, good = Server(world, room=0, fields='Retry-After: 2\r\n'), Server(world)
    gateway = start(world, [bad, good])
    statuses = load(gateway, 8, 5)
    assert good.served > 400 and statuses.count(200) == good.served
    gaps = [b - a for a, b in zip(bad.refused_at, bad.refused_at[1:])]
    assert gaps and all(gap < 0.2 or gap > 1.9 for gap in gaps)
    assert max(gaps) > 1.9
    settled(gateway)


@pytest.mark.parametrize('workers', [1, 2])
def test_one_that_cannot_be_reached_does_not_draw_requests(world, workers):
    gone = world.backend(keep_answering(lambda peer, request: peer.answer('x')))
    address = gone.address
    gone.close()
    good = Server(world)
    gateway = start(world, [address, good], workers=workers, endpoint_concurrency_max=4)
    statuses = load(gateway, 12, 2)
    assert set(statuses) == {200} and len(statuses) > 200
    assert good.served == len(statuses)
    assert good.most <= 4 + 4  # what was meant for the other before that was known
    settled(gateway)
