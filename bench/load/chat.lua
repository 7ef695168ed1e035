-- Chat completions, each another question, so that no cache and no merging answers for the model:
--   wrk -t1 -c32 -d20 --timeout 30s --latency -s bench/load/chat.lua http://127.0.0.1:8080/v1/chat/completions
--   wrk … http://127.0.0.1:8080/v1/chat/completions -- NAME 64        another model, and so many tokens
-- Ends with the counts of tokens and of answers that were not 200. wrk's latency is that of the whole answer.
local threads = {}

function setup(thread)
  thread:set("thread_number", #threads + 1)
  threads[#threads + 1] = thread
end

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  local model = args[1] or "sluice-sim"
  local tokens = tonumber(args[2]) or 16
  form = '{"model": "' .. model .. '", "max_tokens": ' .. tokens ..
    ', "messages": [{"role": "user", "content": "Question %d of %d, asked at %d"}]}'
  started = os.time()
  asked, refused, tokens_got = 0, 0, 0
end

function request()
  asked = asked + 1
  return wrk.format(nil, nil, nil, string.format(form, asked, thread_number, started))
end

function response(status, _, body)
  if status ~= 200 then
    refused = refused + 1
  else
    tokens_got = tokens_got + (tonumber(string.match(body, '"completion_tokens":%s*(%d+)')) or 0)
  end
end

function done(summary)
  local total, tokens = 0, 0
  for _, thread in ipairs(threads) do
    total = total + thread:get("refused")
    tokens = tokens + thread:get("tokens_got")
  end
  print(string.format("answers that were not 200: %d; tokens: %d, %.1f a second", total, tokens,
    tokens / (summary.duration / 1e6)))
end
