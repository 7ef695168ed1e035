"""The simulated backend: what the tests and the benchmarks rely on in it."""

import json
import threading

import pytest
from rawhttp import events, post, wait_until

CHAT = '/v1/chat/completions'


@pytest.fixture
def sim(world):
    return world.sim('--time-scale', '50', '--sequences', '4')


def ask(sim, fields='', **more):
    body = {'model': 'sluice-sim', 'messages': [{'role': 'user', 'content': 'hello'}], **more}
    return post(sim.address, CHAT, json.dumps(body), fields=fields)


def capacity(sim, **more):
    return post(sim.address, '/sim/capacity', json.dumps(more))


def test_the_head_can_say_how_long_prompt_and_answer_are(sim):
    said = 'x-sim-prompt-tokens: 700\r\nx-sim-output-tokens: 37\r\n'
    whole = json.loads(ask(sim, said).body)
    assert whole['usage']['prompt_tokens'] == 700
    assert whole['usage']['completion_tokens'] == 37
    assert whole['choices'][0]['finish_reason'] == 'stop'
    stream = ask(sim, said, stream=True, stream_options={'include_usage': True})
    told = [json.loads(event) for event in events(stream.body)[:-1]]
    words = [choice['delta'].get('content') for event in told for choice in event['choices']]
    assert len([word for word in words if word]) == 37
    assert told[-1]['usage']['total_tokens'] == 737


def test_max_tokens_bounds_what_the_head_says(sim):
    answer = json.loads(ask(sim, 'x-sim-output-tokens: 37\r\n', max_tokens=5).body)
    assert answer['usage']['completion_tokens'] == 5
    assert answer['choices'][0]['finish_reason'] == 'length'


@pytest.mark.parametrize('value', ['0', '-1', 'many', '99999999999999999999', ''])
@pytest.mark.parametrize('name', ['x-sim-prompt-tokens', 'x-sim-output-tokens'])
def test_a_length_that_is_none_is_refused(sim, name, value):
    answer = ask(sim, f'{name}: {value}\r\n')
    assert answer.status == 400
    assert name in json.loads(answer.body)['error']['message']


def test_a_prompt_that_the_head_makes_too_long_is_refused(sim):
    answer = ask(sim, 'x-sim-prompt-tokens: 120000\r\n')
    assert answer.status == 400
    assert 'maximum context length' in json.loads(answer.body)['error']['message']


def test_capacity_is_lost_and_comes_back(sim):
    assert json.loads(capacity(sim, sequences=1, prefill_percent=50, step_percent=200).body) == {
        'sequences': 1, 'prefill_tokens_per_s': 6500, 'step_base_ns': 61_200_000, 'step_per_sequence_ns': 600_000}
    asking = [threading.Thread(target=ask, args=(sim, 'x-sim-output-tokens: 400\r\n')) for _ in range(3)]
    for thread in asking:
        thread.start()
    wait_until(lambda: sim.metrics().value('vllm:num_requests_waiting') == 2, what='two wait for the third')
    assert sim.metrics().value('vllm:num_requests_running') == 1
    assert json.loads(capacity(sim, sequences=4).body)['prefill_tokens_per_s'] == 6500, 'what is not named stays'
    wait_until(lambda: sim.metrics().value('vllm:num_requests_waiting') == 0, what='all run')
    for thread in asking:
        thread.join()
    assert json.loads(capacity(sim, prefill_percent=100, step_percent=100).body) == {
        'sequences': 4, 'prefill_tokens_per_s': 13000, 'step_base_ns': 30_600_000,
        'step_per_sequence_ns': 300_000}, 'percents are of what was at start'


@pytest.mark.parametrize('body', [
    {'sequences': 0}, {'sequences': 'two'}, {'sequences': 2, 'prefill_percent': 0}, {'sequences': 2, 'step_percent': -1},
    {'sequences': 2, 'step_percent': 10001}])
def test_a_capacity_that_is_none_changes_nothing(sim, body):
    assert capacity(sim, **body).status == 400
    assert json.loads(capacity(sim).body) == {
        'sequences': 4, 'prefill_tokens_per_s': 13000, 'step_base_ns': 30_600_000, 'step_per_sequence_ns': 300_000}
