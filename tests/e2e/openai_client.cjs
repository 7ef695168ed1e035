// Makes the calls that stand as JSON on standard input with the npm package `openai`, and prints what came of each.
// The platform's own fetch: before Node 20 the package would take node-fetch 2, which calls whole streams cut short.
require('openai/shims/web');
const { default: OpenAI } = require('openai');

async function call(client, { do: what, params, options }) {
  switch (what) {
    case 'models': {
      const list = [];
      for await (const model of client.models.list(options)) list.push(model);
      return list;
    }
    case 'chat':
    case 'completion':
    case 'responses': {
      const api = { chat: client.chat.completions, completion: client.completions, responses: client.responses }[what];
      const answer = await api.create(params, options);
      if (!params.stream) return answer;
      const chunks = [];
      for await (const chunk of answer) chunks.push(chunk);
      return chunks;
    }
    case 'embeddings':
      return client.embeddings.create(params, options);
    case 'accumulate': { // as the package's own helper puts a stream together
      const stream = client.beta.chat.completions.stream(params, options);
      return stream.finalChatCompletion();
    }
    default:
      throw new Error(`no call ${what}`);
  }
}

async function main() {
  let text = '';
  for await (const piece of process.stdin) text += piece;
  const { base_url, max_retries, calls } = JSON.parse(text);
  const client = new OpenAI({ baseURL: base_url, apiKey: 'key', maxRetries: max_retries ?? 0, timeout: 20000 });
  const results = [];
  for (const one of calls) {
    const start = Date.now();
    try {
      results.push({ value: await call(client, one), ms: Date.now() - start });
    } catch (e) {
      results.push({ error: e.constructor.name, status: e.status ?? null, code: e.code ?? null, type: e.type ?? null,
                     message: String(e.message), ms: Date.now() - start });
    }
  }
  process.stdout.write(JSON.stringify(results));
}

main();
