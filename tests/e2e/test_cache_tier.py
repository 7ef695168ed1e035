"""What is kept on disk: over restarts, and in spite of what can happen to a file."""

import json
import os
import re
import signal
import sqlite3
import threading
import time

import pytest

from backend import keep_answering
from rawhttp import Client, get, post, wait_until

COST_MS = 50
FRESH = 'Cache-Control: max-age=600\r\n'


class Site:
    """A backend whose paths that begin with /slow are worth keeping."""

    def __init__(self, world, fields=FRESH):
        self.fields = fields
        self.number = 0
        self.lock = threading.Lock()
        self.backend = world.backend(keep_answering(self.answer))

    def answer(self, peer, request):
        with self.lock:
            self.number += 1
            number = self.number
        if request.fields.get('if-none-match') == '"e"':
            peer.answer(b'', status='304 Not Modified', fields=FRESH + 'ETag: "e"\r\n')
            return
        if request.target.startswith('/slow'):
            time.sleep(COST_MS / 1000 * 1.5)
        fields = self.fields
        if request.target.startswith('/slow/vary'):
            fields += 'Vary: Accept-Language\r\n'
        if 'tag' in request.target:
            fields += 'Surrogate-Key: it\r\n'
        peer.answer(f'{number}: {request.target} {request.fields.get("accept-language", "")}', fields=fields)


def start(world, backend, path, warm=0, workers=1, routes=None, env=None, **cache):
    settings = {'memory': '32MB', 'database': path, 'database_cost_min_ms': COST_MS, 'warm_start_percent': warm,
                **cache}
    settings = {k: v for k, v in settings.items() if v is not None}
    routes = routes or [{'name': 'site', 'path_prefix': '/', 'http': {'upstream': 'backend', 'cache': True}}]
    return world.gateway(routes, endpoints=[backend], cache=settings, workers=workers,
                         start={'env': {**os.environ, **env}} if env else None)


def stats(gateway):
    return json.loads(get(gateway.admin, '/api/cache/stats').body)


def tier(gateway):
    return stats(gateway)['second_tier']


def written(gateway, count):
    wait_until(lambda: tier(gateway)['records'] == count, what=f'{count} records')


def ready(gateway):
    wait_until(lambda: tier(gateway)['state'] == 'ready', seconds=10, what='the database')


def status(answer):
    return answer.fields['cache-status']


@pytest.fixture(name='path')
def database(tmp_path):
    return str(tmp_path / 'cache.db')


# ---- what is kept

@pytest.mark.parametrize('workers', [1, 2])
def test_what_was_costly_survives_a_restart_and_what_was_cheap_does_not(world, path, workers):
    site = Site(world)
    gateway = start(world, site.backend, path, workers=workers)
    slow = get(gateway.address, '/slow/1').body
    get(gateway.address, '/cheap')
    written(gateway, 1)
    gateway.stop()
    gateway = start(world, site.backend, path, workers=workers)
    ready(gateway)
    again = get(gateway.address, '/slow/1')
    assert again.body == slow and status(again).startswith('sluice; hit') and 'second-tier' in status(again)
    assert 'age' in again.fields and again.fields['via']
    memory = get(gateway.address, '/slow/1')
    assert memory.body == slow and '; hit' in status(memory) and 'second-tier' not in status(memory)
    assert 'uri-miss' in status(get(gateway.address, '/cheap'))
    assert len([r for r in site.backend.requests if r.target == '/slow/1']) == 1
    route = stats(gateway)['routes'][0]
    assert (route['hits'], route['misses'], route['second_tier_hits']) == (2, 1, 1)
    assert route['saved_seconds'] >= 2 * COST_MS / 1000
    metrics = gateway.metrics()
    assert metrics.value('sluice_cache_tier_hits_total') == 1 and metrics.value('sluice_cache_tier_records') == 1
    assert metrics.value('sluice_cache_tier_state', state='ready') == 1 == metrics.value('sluice_cache_tier_state')


def test_the_path_may_come_from_the_environment(world, path):
    site = Site(world)
    for _ in range(2):
        gateway = start(world, site.backend, None, env={'DATABASE_PATH': path})
        ready(gateway)
        body = get(gateway.address, '/slow').body
        written(gateway, 1)
        gateway.stop()
    assert body.startswith(b'1:') and os.path.exists(path)


def test_what_was_written_survives_a_killed_process(world, path):
    site = Site(world)
    gateway = start(world, site.backend, path)
    body = get(gateway.address, '/slow').body
    written(gateway, 1)
    gateway.signal(signal.SIGKILL)
    gateway.wait()
    gateway = start(world, site.backend, path)
    ready(gateway)
    again = get(gateway.address, '/slow')
    assert again.body == body and '; hit' in status(again)
    assert os.stat(path).st_mode & 0o77 == 0


def test_variants_survive(world, path):
    site = Site(world)
    gateway = start(world, site.backend, path)
    told = {}
    for language in ('de', 'fr'):
        told[language] = get(gateway.address, '/slow/vary', fields=f'Accept-Language: {language}\r\n').body
    written(gateway, 3)  # and what leads to them
    gateway.stop()
    gateway = start(world, site.backend, path)
    ready(gateway)
    for language in ('fr', 'de', 'fr'):
        answer = get(gateway.address, '/slow/vary', fields=f'Accept-Language: {language}\r\n')
        assert answer.body == told[language] and '; hit' in status(answer)
    before = site.number
    assert get(gateway.address, '/slow/vary', fields='Accept-Language: it\r\n').body.endswith(b'it')
    assert site.number == before + 1
    for language in ('de', 'fr', 'it'):  # a new one does not lose the others
        assert '; hit' in status(get(gateway.address, '/slow/vary', fields=f'Accept-Language: {language}\r\n'))


def test_conditions_and_ranges_are_met_from_disk(world, path):
    site = Site(world, FRESH + 'ETag: "e"\r\n')
    gateway = start(world, site.backend, path)
    body = get(gateway.address, '/slow').body
    written(gateway, 1)
    gateway.stop()
    gateway = start(world, site.backend, path)
    ready(gateway)
    assert get(gateway.address, '/slow', fields='If-None-Match: "e"\r\n').status == 304
    part = get(gateway.address, '/slow', fields='Range: bytes=1-3\r\n')
    assert part.status == 206 and part.body == body[1:4]
    assert site.number == 1


def test_a_stale_record_is_asked_about(world, path):
    site = Site(world, 'Cache-Control: max-age=1\r\nETag: "e"\r\n')
    gateway = start(world, site.backend, path)
    body = get(gateway.address, '/slow').body
    written(gateway, 1)
    gateway.stop()
    time.sleep(1.2)
    gateway = start(world, site.backend, path)
    ready(gateway)
    answer = get(gateway.address, '/slow')
    assert answer.body == body and site.backend.requests[-1].fields['if-none-match'] == '"e"'
    assert site.number == 2


def test_time_counts_on_while_the_process_is_away(world, path):
    site = Site(world, 'Cache-Control: max-age=3\r\n')
    gateway = start(world, site.backend, path)
    get(gateway.address, '/slow')
    written(gateway, 1)
    gateway.stop()
    time.sleep(1.5)
    gateway = start(world, site.backend, path)
    ready(gateway)
    answer = get(gateway.address, '/slow')
    assert site.number == 1 and int(answer.fields['age']) >= 1
    gateway.stop()
    time.sleep(3)
    gateway = start(world, site.backend, path)
    ready(gateway)
    assert '; hit' not in status(get(gateway.address, '/slow')) and site.number == 2


def test_many_at_once_are_answered_from_one_read(world, path):
    site = Site(world)
    gateway = start(world, site.backend, path)
    body = get(gateway.address, '/slow').body
    written(gateway, 1)
    gateway.stop()
    gateway = start(world, site.backend, path, workers=2)
    ready(gateway)
    clients = [Client(gateway.address) for _ in range(40)]
    for client in clients:
        client.send('GET /slow HTTP/1.1\r\nHost: test\r\n\r\n')
    for client in clients:
        assert client.response().body == body
        client.close()
    assert site.number == 1


def test_a_newer_cheap_answer_takes_the_old_one_off_the_disk(world, path):
    speed = {'slow': True}

    def answer(peer, request):
        if speed['slow']:
            time.sleep(COST_MS / 1000 * 1.5)
        peer.answer('old' if speed['slow'] else 'new', fields=FRESH)

    backend = world.backend(keep_answering(answer))
    gateway = start(world, backend, path)
    assert get(gateway.address, '/a').body == b'old'
    written(gateway, 1)
    speed['slow'] = False
    assert get(gateway.address, '/a', fields='Cache-Control: no-cache\r\n').body == b'new'
    written(gateway, 0)
    gateway.stop()
    gateway = start(world, backend, path)
    ready(gateway)
    assert get(gateway.address, '/a').body == b'new'


def test_what_memory_has_no_room_for_is_kept_on_disk_and_answered_from_there(world, path):
    def answer(peer, request):
        time.sleep(1 if request.target.startswith('/dear') else COST_MS / 1000 * 1.5)
        peer.answer(request.target[1] * 90_000, fields=FRESH)

    def fill_memory(gateway):
        threads = [threading.Thread(target=get, args=(gateway.address, f'/dear/{i}')) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    backend = world.backend(keep_answering(answer))
    gateway = start(world, backend, path, memory='1MB', object_bytes_max=200_000)
    fill_memory(gateway)
    for i in range(3):
        get(gateway.address, f'/cheap/{i}')
    written(gateway, 19)  # those that memory refused, too
    gateway.stop()
    gateway = start(world, backend, path, memory='1MB', object_bytes_max=200_000)
    ready(gateway)
    fill_memory(gateway)
    asked = len(backend.requests)
    for _ in range(2):
        for i in range(3):
            got = get(gateway.address, f'/cheap/{i}')
            assert got.body == b'c' * 90_000 and '; hit' in status(got), got.fields
    assert len(backend.requests) == asked


# ---- inference

CHAT = {'model': 'sluice-sim', 'max_tokens': 6, 'messages': [{'role': 'user', 'content': 'Hello'}]}


def chat(gateway, **more):
    body = json.dumps({**CHAT, **more})
    return post(gateway.address, '/v1/chat/completions', body, 'Content-Type: application/json\r\n')


def content_of(answer):
    text = answer.body.decode()
    if answer.fields['content-type'].startswith('application/json'):
        return json.loads(text)['choices'][0]['message']['content']
    assert text.rstrip().endswith('data: [DONE]')
    events = [json.loads(e) for e in re.findall(r'^data: (\{.*\})$', text, re.M)]
    return ''.join(c['delta'].get('content') or '' for e in events for c in e['choices'])


def test_generated_answers_survive_and_are_given_in_either_shape(world, path):
    sim = world.sim()
    routes = [{'name': 'models', 'path_prefix': '/v1', 'inference': {'upstream': 'backend', 'cache': True}}]
    gateway = start(world, sim, path, routes=routes)
    whole = content_of(chat(gateway, temperature=0))
    streamed = content_of(chat(gateway, temperature=0, max_tokens=8, stream=True,
                               stream_options={'include_usage': True}))
    chat(gateway, temperature=1)
    written(gateway, 2)
    made = sim.metrics().value('sim_engine_finished_total')
    assert made == 3
    gateway.stop()
    gateway = start(world, sim, path, routes=routes)
    ready(gateway)
    for more, content in (({'stream': True}, whole), ({'max_tokens': 8}, streamed)):  # each in the other shape
        answer = chat(gateway, temperature=0, **more)
        assert content_of(answer) == content and 'second-tier' in status(answer), answer
        assert ('text/event-stream' in answer.fields['content-type']) == ('stream' in more)
        again = chat(gateway, temperature=0, **more)
        assert content_of(again) == content and '; hit' in status(again) and 'second-tier' not in status(again)
    assert sim.metrics().value('sim_engine_finished_total') == made, 'nothing is made anew'
    figures = stats(gateway)['totals']
    assert figures['hits'] == 4 and figures['misses'] == 0 and figures['second_tier_hits'] == 2
    assert figures['saved_tokens'] > 0
    assert '; hit' not in status(chat(gateway, temperature=1))


# ---- warm start

@pytest.mark.parametrize('workers', [1, 2])
def test_a_warm_start_puts_records_into_memory(world, path, workers):
    site = Site(world)
    gateway = start(world, site.backend, path, workers=workers)
    paths = [f'/slow/{i}' for i in range(80)] + ['/slow/vary']
    threads = [threading.Thread(target=get, args=(gateway.address, p)) for p in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written(gateway, 82)
    gateway.stop()
    gateway = start(world, site.backend, path, warm=50, workers=workers)
    gateway.wait_line('the cache has 81 answers from the database')
    assert stats(gateway)['memory']['entries'] == 82
    before = site.number
    for p in paths:
        answer = get(gateway.address, p)
        assert '; hit' in status(answer) and 'second-tier' not in status(answer)
    assert site.number == before and tier(gateway)['hits'] == 0


def test_a_warm_start_takes_no_more_than_its_share_and_leaves_out_what_is_over(world, path):
    def answer(peer, request):
        time.sleep(COST_MS / 1000 * 1.5)
        age = 1 if 'short' in request.target else 600
        peer.answer('x' * 100_000, fields=f'Cache-Control: max-age={age}\r\n')

    backend = world.backend(keep_answering(answer))
    gateway = start(world, backend, path)
    for i in range(30):
        get(gateway.address, f'/{i}')
    get(gateway.address, '/short')
    wait_until(lambda: tier(gateway)['records'] >= 30)
    gateway.stop()
    time.sleep(2.2)
    gateway = start(world, backend, path, warm=5)  # of 32 MB
    gateway.wait_line(r'the cache has \d+ answers from the database')
    memory = stats(gateway)['memory']
    assert 8 <= memory['entries'] <= 16 and memory['bytes'] < 3 << 20
    assert '; hit' not in status(get(gateway.address, '/short'))


# ---- purges

def test_purges_go_through_both_tiers(world, path):
    site = Site(world)
    gateway = start(world, site.backend, path)
    for p in ('/slow/a', '/slow/b', '/slow/tag', '/slow/vary', '/slow/x/1', '/slow/x/2'):
        get(gateway.address, p)
    written(gateway, 7)
    gateway.stop()
    gateway = start(world, site.backend, path)
    ready(gateway)

    def removed(query):
        told = json.loads(get(gateway.admin, f'/api/cache?{query}', method='DELETE').body)
        assert told['removed'] == told['memory'] + told['second_tier'] and 'second_tier_pending' not in told
        return told['memory'], told['second_tier']

    get(gateway.address, '/slow/a')
    assert removed('key=test/slow/a') == (1, 1)
    assert removed('key=test/slow/vary') == (0, 2)
    assert removed('tag=it') == (0, 1)
    assert removed('prefix=test/slow/x/') == (0, 2)
    assert tier(gateway)['records'] == 1
    assert removed('route=site') == (0, 1)
    get(gateway.address, '/slow/a')
    written(gateway, 1)
    assert removed('all=true') == (1, 1)
    before = site.number
    assert '; hit' not in status(get(gateway.address, '/slow/a')) and site.number == before + 1


# ---- what can happen to the file

def count_lines(gateway, pattern):
    return len([line for line in gateway.lines if re.search(pattern, line)])


def test_a_corrupt_database_is_moved_aside_and_a_new_one_begun(world, path):
    with open(path, 'wb') as f:
        f.write(b'SQLite format 3\0' + os.urandom(20_000))
    site = Site(world)
    gateway = start(world, site.backend, path, warm=50)
    get(gateway.address, '/slow/1')
    ready(gateway)
    get(gateway.address, '/slow/2')
    wait_until(lambda: tier(gateway)['records'] >= 1)
    assert os.path.exists(path + '.corrupt-1') and count_lines(gateway, 'moved aside') == 1
    gateway.stop()
    gateway = start(world, site.backend, path)
    ready(gateway)
    assert '; hit' in status(get(gateway.address, '/slow/2'))


def test_a_database_that_cannot_be_there_is_done_without(world, tmp_path):
    site = Site(world)
    folder = tmp_path / 'later'
    gateway = start(world, site.backend, str(folder / 'cache.db'), warm=50)
    for i in range(20):
        assert get(gateway.address, f'/slow/{i % 2}').status == 200
    assert '; hit' in status(get(gateway.address, '/slow/1'))  # memory works
    assert tier(gateway)['state'] == 'unavailable' and tier(gateway)['fault'] == 'missing'
    assert count_lines(gateway, 'store unavailable') == 1
    assert gateway.metrics().value('sluice_cache_tier_state', state='unavailable') == 1
    told = json.loads(get(gateway.admin, '/api/cache?all=true', method='DELETE').body)
    assert told['memory'] == 2 and told['second_tier'] == 0 and told['second_tier_pending']
    folder.mkdir()
    ready(gateway)  # it is looked for every five seconds
    get(gateway.address, '/slow/new')
    written(gateway, 1)
    assert count_lines(gateway, 'store ready') == 1


def test_a_locked_database_is_done_without_until_it_is_free(world, path):
    site = Site(world)
    gateway = start(world, site.backend, path)
    ready(gateway)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute('BEGIN IMMEDIATE')
    get(gateway.address, '/slow/1')
    wait_until(lambda: tier(gateway)['state'] == 'read_only', seconds=10)
    assert tier(gateway)['fault'] == 'locked'
    for i in range(5):
        assert get(gateway.address, f'/slow/{i}').status == 200
    assert count_lines(gateway, 'store cannot be written') == 1
    other.execute('ROLLBACK')
    other.close()
    ready(gateway)
    get(gateway.address, '/slow/free')
    wait_until(lambda: tier(gateway)['records'] >= 1)


def test_a_database_that_goes_away_is_begun_anew(world, path):
    site = Site(world)
    gateway = start(world, site.backend, path)
    get(gateway.address, '/slow/1')
    written(gateway, 1)
    for name in (path, path + '-wal', path + '-shm'):
        if os.path.exists(name):
            os.unlink(name)
    wait_until(lambda: os.path.exists(path), seconds=15)
    ready(gateway)
    assert get(gateway.address, '/slow/1').status == 200
    get(gateway.address, '/slow/2')
    written(gateway, 1)


def test_a_database_that_a_newer_version_takes_over_is_let_go_and_taken_again(world, path):
    site = Site(world)
    gateway = start(world, site.backend, path)
    get(gateway.address, '/slow/1')
    written(gateway, 1)

    def stamp(version):
        other = sqlite3.connect(path)
        other.execute(f'PRAGMA user_version = {version}')
        other.close()

    stamp(99)
    wait_until(lambda: tier(gateway)['fault'] == 'newer', seconds=10)
    for i in range(3):
        assert get(gateway.address, f'/slow/new/{i}').status == 200
    assert count_lines(gateway, 'store unavailable: newer') == 1
    stamp(1)
    ready(gateway)
    assert tier(gateway)['records'] == 1


def test_another_applications_database_is_left_alone(world, path):
    other = sqlite3.connect(path)
    other.execute('CREATE TABLE theirs (x)')
    other.execute('PRAGMA application_id = 77')
    other.commit()
    other.close()
    with open(path, 'rb') as f:
        before = f.read()
    site = Site(world)
    gateway = start(world, site.backend, path, warm=50)
    assert get(gateway.address, '/slow/1').status == 200
    wait_until(lambda: tier(gateway)['fault'] == 'foreign')
    gateway.stop()
    with open(path, 'rb') as f:
        assert f.read() == before
