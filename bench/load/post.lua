-- POST with a JSON body, a different user in each request:
--   wrk -t1 -c64 -d10 --latency -s bench/load/post.lua http://127.0.0.1:8080/api/requests
-- Ends with a count of answers that were not 2xx, which wrk's own summary mentions only in passing.
local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  user = 0
  refused = 0
end

function request()
  user = user % 1000 + 1
  return wrk.format(nil, nil, nil, string.format('{"user_id": %d, "action": "load-test"}', user))
end

function response(status)
  if status < 200 or status > 299 then
    refused = refused + 1
  end
end

function done()
  local total = 0
  for _, thread in ipairs(threads) do
    total = total + thread:get("refused")
  end
  print(string.format("answers that were not 2xx: %d", total))
end
