"""What requests ask of the scheduler by header and body, and what it learns from their answers."""

import json

import pytest
from rawhttp import wait_until
from test_admission import Scene


@pytest.fixture(params=[1, 2])
def workers(request):
    return request.param


def order_of(scene, asked):
    """Asks while another is served, in this order: (name, fields, body). Gives the order in which they were sent. The
    one served is of the highest class, where it may be: the highest in use may go beyond the limit."""
    scene.ask_in_turn('first', fields='Priority: u=0\r\n')
    scene.holding.wait_for('first')
    for name, fields, body in asked:
        before = scene.active()
        scene.ask(name, fields, **body)
        wait_until(lambda: scene.active() == before + 1, what=f'{name} is under way')
    names = ['first']
    for _ in range(len(asked) + 1):
        wait_until(lambda: len(scene.holding.order) >= len(names), what='the next one is at the backend')
        assert scene.finish(scene.holding.order[-1]) == [200]
        names.append(None)
    return scene.holding.order[1:]


@pytest.mark.parametrize('kind', ['http', 'inference'])
def test_priority_puts_a_request_back_and_forward_only_where_that_is_trusted(world, kind, workers):
    asked = [('low', 'Priority: u=6\r\n', {}), ('usual', '', {}), ('high', 'Priority: u=2\r\n', {})]
    scene = Scene(world, kind, workers, holdback_percent=0)
    assert order_of(scene, asked) == ['usual', 'high', 'low']
    scene = Scene(world, kind, workers, holdback_percent=0, route={'trust_class': True})
    assert order_of(scene, asked) == ['high', 'usual', 'low']


def test_the_body_says_how_urgent_it_is(world, workers):
    scene = Scene(world, 'inference', workers, holdback_percent=0, route={'trust_class': True})
    asked = [('late', '', {'priority': 3}), ('flex', '', {'service_tier': 'flex'}), ('usual', '', {'priority': 0}),
             ('early', '', {'priority': -1})]
    assert order_of(scene, asked) == ['early', 'usual', 'late', 'flex']


@pytest.mark.parametrize('kind', ['http', 'inference'])
@pytest.mark.parametrize('field', ['x-request-timeout-ms: 300', 'x-litellm-timeout: 0.3', 'grpc-timeout: 300m'])
def test_a_client_says_when_its_answer_is_of_no_use_any_more(world, kind, field):
    scene = Scene(world, kind)
    scene.ask_in_turn('a')
    scene.holding.wait_for('a')
    response = scene.ask('b', field + '\r\n').response()
    assert response.status == 503
    assert response.fields['x-sluice-reason'] == 'late_dispatch'
    assert scene.finish('a') == [200]


def test_what_waits_is_counted_in_the_tokens_that_its_body_asks_for(world):
    """A token is four bytes until usage has told, and an answer 256 tokens unless the body bounds it."""
    scene = Scene(world, 'inference', queue={'tokens_max': 600})
    messages = [{'role': 'user', 'content': 'word ' * 200}]
    scene.ask_in_turn('first')
    scene.holding.wait_for('first')
    before = scene.active()
    scene.ask('short', messages=messages, max_tokens=10)
    wait_until(lambda: scene.active() == before + 1, what='it is under way')
    response = scene.ask('long', messages=messages).response()
    assert response.status == 503
    assert response.fields['x-sluice-reason'] == 'queue_full'
    scene.ask('token ids', prompt=list(range(50)), max_completion_tokens=10)
    wait_until(lambda: scene.active() == before + 2, what='it is under way')
    response = scene.ask('many', prompt='x', max_tokens=10, n=30).response()
    assert response.fields['x-sluice-reason'] == 'queue_full'
    assert scene.finish('first', 'short', 'token ids') == [200] * 3


def test_usage_teaches_what_a_prompt_is_in_tokens(world):
    """Prompts of 1,000 bytes, which usage says are 500 tokens: where two of 250 fit, soon only one does."""
    body = json.dumps({'usage': {'prompt_tokens': 500, 'completion_tokens': 1}}).encode()
    answer = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body)
    scene = Scene(world, 'inference', answer=answer, queue={'tokens_max': 620, 'tenant_share_percent': 100})
    more = {'messages': [{'role': 'user', 'content': 'word ' * 200}], 'max_tokens': 1}

    def two_fit(turn):
        names = [f'{turn}.{part}' for part in ('served', 'one', 'two')]
        for n, name in enumerate(names[:2]):
            scene.ask(name, **more)
            wait_until(lambda: scene.active() == n + 1, what=f'{name} is under way')
            scene.holding.wait_for(names[0])
        other = scene.ask(names[2], **more)
        wait_until(lambda: scene.active() == 3 or scene.gateway.metrics().value('errors_total', type='shed') > 0,
                   what='it waits or is turned away')
        do_fit = scene.active() == 3
        if not do_fit:
            assert other.response().status == 503
        assert set(scene.finish(*names[:3 if do_fit else 2])) == {200}
        wait_until(lambda: scene.active() == 0, what='all are over')
        return do_fit

    assert two_fit(0)
    assert not all(two_fit(turn) for turn in range(1, 40))
