-- Sixteen GETs in one write; the depth can be given behind "--":
--   wrk -t1 -c64 -d10 --latency -s bench/load/pipelined.lua http://127.0.0.1:8080/health -- 16
-- wrk counts each answer; its latencies are those of whole batches.
function init(args)
  local depth = tonumber(args[1]) or 16
  local requests = {}
  for i = 1, depth do
    requests[i] = wrk.format("GET")
  end
  batch = table.concat(requests)
end

function request()
  return batch
end
