"""Answers of inference servers as they stand on the wire, whole and as events, and a backend that gives them.

Each case has both shapes of one answer, as one server would write them: what a client makes of the events is what the
other client is told.
"""

import json

from backend import keep_answering

USAGE = {'prompt_tokens': 9, 'completion_tokens': 4, 'total_tokens': 13}


def chat(message, deltas, finish='stop', choice=None, last=None, each=None, top=None, usage=None, chunk_top=None):
    """One choice. `choice`: beside the message; `last`: beside the last delta; `each`: beside every delta."""
    head = {'id': 'chatcmpl-1', 'created': 1700000000, 'model': 'm', **(top or {})}
    whole = {**head, 'object': 'chat.completion', 'usage': usage or USAGE, 'choices': [
        {'index': 0, 'message': message, 'finish_reason': finish, **(choice or {})}]}
    chunks = [{**head, **(chunk_top or {}), 'object': 'chat.completion.chunk', 'choices': [
        {'index': 0, 'delta': d, 'finish_reason': None, **(each or {})}]} for d in deltas]
    chunks.append({**head, 'object': 'chat.completion.chunk', 'choices': [
        {'index': 0, 'delta': {}, 'finish_reason': finish, **(each or {}), **(last or {})}]})
    return {'whole': whole, 'chunks': chunks, 'path': '/v1/chat/completions'}


def role(**more):
    return {'role': 'assistant', 'content': '', **more}


def logprob(token, value=-0.25):
    return {'token': token, 'logprob': value, 'bytes': list(token.encode()),
            'top_logprobs': [{'token': token, 'logprob': value, 'bytes': None}]}


def several():
    """Two choices, whose chunks come mixed; the second ends first."""
    head = {'id': 'chatcmpl-2', 'created': 1700000000, 'model': 'm', 'system_fingerprint': 'fp_1'}

    def chunk(index, finish=None, **delta):
        return {**head, 'object': 'chat.completion.chunk', 'choices': [
            {'index': index, 'delta': delta, 'logprobs': None, 'finish_reason': finish}]}
    return {
        'path': '/v1/chat/completions',
        'whole': {**head, 'object': 'chat.completion', 'usage': USAGE, 'choices': [
            {'index': i, 'message': {'role': 'assistant', 'content': text}, 'logprobs': None, 'finish_reason': finish}
            for i, text, finish in ((0, 'one two', 'stop'), (1, 'three', 'length'), (2, '', 'stop'))]},
        'chunks': [chunk(1, **role()), chunk(0, **role()), chunk(0, content='one'), chunk(1, content='three'),
                   chunk(2, **role()), chunk(1, 'length'), chunk(0, content=' two'), chunk(2, 'stop'), chunk(0, 'stop')]}


def completion():
    head = {'id': 'cmpl-1', 'object': 'text_completion', 'created': 1700000000, 'model': 'm'}

    def logprobs(tokens, at):
        offsets = [at + sum(len(t) for t in tokens[:i]) for i in range(len(tokens))]
        return {'text_offset': offsets, 'token_logprobs': [-0.5] * len(tokens), 'tokens': tokens,
                'top_logprobs': [{t: -0.5} for t in tokens]}

    def chunk(text, probs, finish=None, stop=None):
        return {**head, 'choices': [{'index': 0, 'text': text, 'logprobs': probs, 'finish_reason': finish,
                                     'stop_reason': stop}]}
    return {'path': '/v1/completions',
            'whole': {**head, 'usage': USAGE, 'choices': [
                {'index': 0, 'text': 'Once upon', 'logprobs': logprobs(['Once', ' upon'], 0), 'finish_reason': 'stop',
                 'stop_reason': 128009}]},
            'chunks': [chunk('Once', logprobs(['Once'], 0)), chunk(' upon', logprobs([' upon'], 4)),
                       chunk('', None, 'stop', 128009)]}


def call(index, name, *arguments, call_id):
    first = {'index': index, 'id': call_id, 'type': 'function', 'function': {'name': name, 'arguments': ''}}
    return [{'tool_calls': [first]}] + [{'tool_calls': [{'index': index, 'function': {'arguments': a}}]} for a in arguments]


CASES = {
    'openai': chat({'role': 'assistant', 'content': 'Hello there', 'refusal': None},
                   [role(refusal=None), {'content': 'Hello'}, {'content': ' there'}], choice={'logprobs': None},
                   each={'logprobs': None}, chunk_top={'obfuscation': 'x7'},
                   top={'system_fingerprint': 'fp_44', 'service_tier': 'default'},
                   usage={**USAGE, 'prompt_tokens_details': {'cached_tokens': 0, 'audio_tokens': 0},
                          'completion_tokens_details': {'reasoning_tokens': 0}}),
    'refusal': chat({'role': 'assistant', 'content': None, 'refusal': 'I cannot help with that.'},
                    [{'role': 'assistant', 'content': None, 'refusal': ''}, {'refusal': 'I cannot'},
                     {'refusal': ' help with that.'}], choice={'logprobs': None}, each={'logprobs': None}),
    'unicode': chat({'role': 'assistant', 'content': 'añ\u0000\u2028"\\/\t𝄞👩‍👩‍👧 \U0010ffff e\u0301'},
                    [role()] + [{'content': c} for c in 'añ\u0000\u2028"\\/\t𝄞👩‍👩‍👧 \U0010ffff e\u0301']),
    'long': chat({'role': 'assistant', 'content': 'wörter '.join(str(i) for i in range(3000))},
                 [role()] + [{'content': ('wörter ' if i else '') + str(i)} for i in range(3000)], 'length'),
    'empty': chat({'role': 'assistant', 'content': ''}, [role()]),
    'vllm': chat({'role': 'assistant', 'content': '42', 'reasoning_content': 'hmm, so'},
                 [role(), {'reasoning_content': 'hmm,'}, {'reasoning_content': ' so'}, {'content': '42'}],
                 choice={'logprobs': None, 'stop_reason': 151645, 'token_ids': [5, 6, 7]},
                 each={'logprobs': None, 'token_ids': None}, last={'stop_reason': 151645, 'token_ids': [5, 6, 7]}),
    'llama.cpp': chat({'role': 'assistant', 'content': 'ok'}, [{'role': 'assistant', 'content': None}, {'content': 'ok'}],
                      top={'system_fingerprint': 'b6432-0fb5', }, usage={**USAGE, 'x': 1.50}),
    'azure': chat({'role': 'assistant', 'content': 'fine'}, [role(), {'content': 'fi'}, {'content': 'ne'}],
                  choice={'content_filter_results': {'hate': {'filtered': False, 'severity': 'safe'}}},
                  each={'content_filter_results': {'hate': {'filtered': False, 'severity': 'safe'}}},
                  last={'content_filter_results': {}}),
    'router': chat({'role': 'assistant', 'content': 'b', 'reasoning': 'a', 'reasoning_details': [
                       {'type': 'reasoning.text', 'text': 'aa', 'format': 'f-1', 'index': 0}]},
                   [role(), *({'reasoning_details': [{'type': 'reasoning.text', 'text': 'a', 'format': 'f-1', 'index': 0}]}
                              for _ in '12'), {'reasoning': 'a'}, {'content': 'b'}],
                   choice={'native_finish_reason': 'STOP'}, last={'native_finish_reason': 'STOP'},
                   top={'provider': 'Somebody'}, usage={**USAGE, 'cost': 0.000125, 'cost_details': {'x': 1e-9}}),
    'logprobs': chat({'role': 'assistant', 'content': 'ab'}, [], 'stop'),
    'several': several(),
    'completion': completion(),
    'tools': chat({'role': 'assistant', 'content': None, 'tool_calls': [
        {'id': 'call_a', 'type': 'function', 'function': {'name': 'f', 'arguments': '{"x": "ü"}'}},
        {'id': 'call_b', 'type': 'function', 'function': {'name': 'g', 'arguments': '{}'}}]},
        [{'role': 'assistant', 'content': None}, *call(0, 'f', '{"x"', ': "ü"}', call_id='call_a'),
         *call(1, 'g', '{}', call_id='call_b')], 'tool_calls'),
    'function': chat({'role': 'assistant', 'content': None, 'function_call': {'name': 'f', 'arguments': '{"x":1}'}},
                     [{'role': 'assistant', 'content': None}, {'function_call': {'name': 'f', 'arguments': ''}},
                      {'function_call': {'arguments': '{"x"'}}, {'function_call': {'arguments': ':1}'}}], 'function_call'),
}
CASES['logprobs']['whole']['choices'][0]['logprobs'] = {'content': [logprob('a'), logprob('b', -1e-7)], 'refusal': None}
CASES['logprobs']['chunks'] = [
    {'id': 'chatcmpl-1', 'created': 1700000000, 'model': 'm', 'object': 'chat.completion.chunk', 'choices': [
        {'index': 0, 'delta': delta, 'logprobs': probs and {'content': probs, 'refusal': None}, 'finish_reason': finish}]}
    for delta, probs, finish in ((role(), None, None), ({'content': 'a'}, [logprob('a')], None),
                                 ({'content': 'b'}, [logprob('b', -1e-7)], None), ({}, None, 'stop'))]

EMBEDDINGS = {'object': 'list', 'model': 'm', 'usage': {'prompt_tokens': 2, 'total_tokens': 2},
              'data': [{'object': 'embedding', 'index': i, 'embedding': [0.1, -1e-9, 12345678901234567890.5]} for i in (0, 1)]}

RESPONSE = {'id': 'resp_1', 'object': 'response', 'created_at': 1700000000, 'status': 'completed', 'error': None, 'model': 'm',
            'incomplete_details': None, 'instructions': None, 'metadata': {}, 'temperature': 0.0, 'tools': [],
            'output': [{'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'completed', 'content': [
                {'type': 'output_text', 'text': 'Hello', 'annotations': []}]}],
            'usage': {'input_tokens': 3, 'output_tokens': 1, 'total_tokens': 4,
                      'output_tokens_details': {'reasoning_tokens': 0}}}
RESPONSE_EVENTS = [
    {'type': 'response.created', 'sequence_number': 0, 'response': {**RESPONSE, 'status': 'in_progress', 'output': [], 'usage': None}},
    {'type': 'response.output_text.delta', 'sequence_number': 1, 'item_id': 'msg_1', 'output_index': 0, 'content_index': 0, 'delta': 'Hello'},
    {'type': 'response.completed', 'sequence_number': 2, 'response': RESPONSE}]

STREAM_FIELDS = 'Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n'
JSON_FIELDS = 'Content-Type: application/json\r\n'


def event(value):
    return b'data: ' + json.dumps(value, ensure_ascii=False).encode() + b'\n\n'


def event_stream(case, wants_usage):
    """The bytes of a stream, as OpenAI writes them."""
    more = {'usage': None} if wants_usage else {}
    text = b''.join(event({**chunk, **more}) for chunk in case['chunks'])
    if wants_usage:
        head = {k: v for k, v in case['chunks'][-1].items() if k != 'choices'}
        text += event({**head, 'choices': [], 'usage': case['whole']['usage']})
    return text + b'data: [DONE]\n\n'


def send_events(peer, text, piece=1000, fields=STREAM_FIELDS):
    peer.send(f'HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n')
    for at in range(0, len(text), piece):
        part = text[at:at + piece]
        peer.send(b'%x\r\n%s\r\n' % (len(part), part))
    peer.send('0\r\n\r\n')


def answer(peer, request, fields='', piece=1000):
    """As the case that stands in `model`."""
    asked = json.loads(request.body)
    if request.target == '/v1/embeddings':
        peer.answer(json.dumps(EMBEDDINGS), fields=JSON_FIELDS + fields)
    elif request.target == '/v1/responses':
        if asked.get('stream'):
            text = b''.join(b'event: ' + e['type'].encode() + b'\n' + event(e) for e in RESPONSE_EVENTS)
            send_events(peer, text, piece, STREAM_FIELDS + fields)
        else:
            peer.answer(json.dumps(RESPONSE), fields=JSON_FIELDS + fields)
    elif asked.get('stream'):
        wants_usage = (asked.get('stream_options') or {}).get('include_usage')
        send_events(peer, event_stream(CASES[asked['model']], wants_usage), piece, STREAM_FIELDS + fields)
    else:
        peer.answer(json.dumps(CASES[asked['model']]['whole']), fields=JSON_FIELDS + fields)


def answering(fields='', piece=1000):
    return keep_answering(lambda peer, request: answer(peer, request, fields, piece))


# ---- as a client reads it

def join(into, delta):
    """What the SDKs make of deltas (openai-python's accumulate_delta)."""
    for name, value in delta.items():
        old = into.get(name)
        if old is None or name in ('index', 'type', 'id', 'role', 'format'):
            into[name] = value if value is not None or name not in into else old
        elif isinstance(value, str) and isinstance(old, str):
            into[name] = old + value
        elif isinstance(value, dict) and isinstance(old, dict):
            join(old, value)
        elif isinstance(value, list) and isinstance(old, list):
            for item in value:
                same = [o for o in old if isinstance(item, dict) and 'index' in item and o.get('index') == item['index']]
                if same:
                    join(same[0], item)
                else:
                    old.append(item)
        elif value is not None:
            into[name] = value
    return into


def is_nothing(value):
    return value is None or value == '' or value == [] or value == {}


def plain(value):
    """Without what says nothing: SDKs show an absent member as they show null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if not is_nothing(v)}
    return [plain(v) for v in value] if isinstance(value, list) else value


def of_stream(chunks):
    """The answer that the chunks add up to, in the shape of a whole one."""
    top, choices = {}, {}
    for chunk in json.loads(json.dumps(chunks)):
        for choice in chunk.pop('choices'):
            own = choices.setdefault(choice['index'], {'message': {}})
            join(own['message'], choice.pop('delta', {}))
            own['text'] = own.get('text', '') + (choice.pop('text', None) or '')
            if choice.get('logprobs'):
                join(own.setdefault('logprobs', {}), choice['logprobs'])
            choice.pop('logprobs', None)
            own.update({k: v for k, v in choice.items() if not is_nothing(v) or k not in own})
        chunk.pop('obfuscation', None)
        chunk['object'] = chunk['object'].removesuffix('.chunk')
        top.update({k: v for k, v in chunk.items() if v is not None})
    for choice in choices.values():
        for called in choice['message'].get('tool_calls') or []:
            del called['index']
    return plain({**top, 'choices': [choices[i] for i in sorted(choices)]})


def of_whole(whole):
    return plain(json.loads(json.dumps(whole)))
