"""Makes the calls that stand as JSON on standard input with the Python package `openai`, and prints what came of each."""

import json
import sys
import time

import openai


def call(client, what, params, options):
    if what == 'models':
        return [model.model_dump() for model in client.models.list()]
    if what in ('chat', 'completion', 'responses'):
        api = {'chat': client.chat.completions, 'completion': client.completions, 'responses': client.responses}[what]
        answer = api.create(**params, **options)
        return [chunk.model_dump() for chunk in answer] if params.get('stream') else answer.model_dump()
    if what == 'accumulate':
        own = {k: v for k, v in params.items() if k != 'stream'}  # the helper says that itself
        with client.beta.chat.completions.stream(**own, **options) as stream:
            try:
                return stream.get_final_completion().model_dump()
            except openai.LengthFinishReasonError as e:  # it wants answers that can be parsed
                return e.completion.model_dump()
    if what == 'embeddings':
        return client.embeddings.create(**params, **options).model_dump()
    raise ValueError(what)


def main():
    asked = json.load(sys.stdin)
    client = openai.OpenAI(base_url=asked['base_url'], api_key='key', max_retries=asked.get('max_retries', 0), timeout=20)
    results = []
    for one in asked['calls']:
        start = time.monotonic()
        options = one.get('options') or {}
        if 'headers' in options:
            options = {'extra_headers': options['headers']}
        try:
            params = dict(one.get('params') or {})
            known = {k: params.pop(k) for k in list(params) if k not in ('ignore_eos', 'min_tokens')}
            if params:
                known['extra_body'] = params
            result = {'value': call(client, one['do'], known, options)}
        except openai.APIError as e:
            result = {'error': type(e).__name__, 'status': getattr(e, 'status_code', None), 'code': e.code,
                      'type': e.type, 'message': str(e)}
        result['ms'] = (time.monotonic() - start) * 1000
        results.append(result)
    json.dump(results, sys.stdout)


main()
