-- GET with nothing special, here to be copied:
--   wrk -t1 -c64 -d10 --latency -s bench/load/plain.lua http://127.0.0.1:8080/health
wrk.method = "GET"
wrk.headers["Accept"] = "*/*"
