-- Chat completions as server-sent events, each another question:
--   wrk -t1 -c32 -d20 --timeout 60s --latency -s bench/load/sse.lua http://127.0.0.1:8080/v1/chat/completions
--   wrk … http://127.0.0.1:8080/v1/chat/completions -- NAME 64        another model, and so many tokens
-- wrk looks at an answer when it is whole: its latency is that of the last token. For the time to the first one and the
-- gaps between them use bench/load/run --scenario stream, or bench/load/chat.py with Locust.
local threads = {}

function setup(thread)
  thread:set("thread_number", #threads + 1)
  threads[#threads + 1] = thread
end

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Accept"] = "text/event-stream"
  local model = args[1] or "sluice-sim"
  local tokens = tonumber(args[2]) or 32
  form = '{"model": "' .. model .. '", "stream": true, "max_tokens": ' .. tokens ..
    ', "messages": [{"role": "user", "content": "Question %d of %d, asked at %d"}]}'
  started = os.time()
  asked, refused, broken, events = 0, 0, 0, 0
end

function request()
  asked = asked + 1
  return wrk.format(nil, nil, nil, string.format(form, asked, thread_number, started))
end

function response(status, _, body)
  if status ~= 200 then
    refused = refused + 1
    return
  end
  local _, count = string.gsub(body, "data:", "")
  events = events + count
  if not string.find(body, "data: [DONE]", 1, true) then
    broken = broken + 1
  end
end

function done(summary)
  local counts = { refused = 0, broken = 0, events = 0 }
  for _, thread in ipairs(threads) do
    for name in pairs(counts) do
      counts[name] = counts[name] + thread:get(name)
    end
  end
  print(string.format("answers that were not 200: %d; streams without [DONE]: %d; events: %d, %.1f a second",
    counts.refused, counts.broken, counts.events, counts.events / (summary.duration / 1e6)))
end
