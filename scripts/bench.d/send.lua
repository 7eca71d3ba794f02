-- The requests of scripts/bench: POST /v1/messages/send with one body. Settings come by the environment: BENCH_KEY,
-- BENCH_BODY (a file), and BENCH_COUNT, after as many answers it ends, if it is set.
local file = assert(io.open(os.getenv('BENCH_BODY')))
wrk.method = 'POST'
wrk.body = file:read('*a')
file:close()
wrk.headers['Content-Type'] = 'application/json'
wrk.headers['Authorization'] = 'Bearer ' .. os.getenv('BENCH_KEY')

-- Only when counting: a function that looks at every answer takes time. wrk itself ends by the clock alone, so the
-- process ends here; there must be one thread.
local wanted = tonumber(os.getenv('BENCH_COUNT') or '')
if wanted then
  local answers, refused = 0, 0
  response = function(status)
    answers = answers + 1
    if status > 299 then refused = refused + 1 end
    if answers == wanted then
      io.write('\nbench_requests=', answers, '\nbench_refused=', refused, '\nbench_broken=0\n')
      io.flush()
      os.exit(0)
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write('\nbench_requests=', summary.requests, '\nbench_seconds=', summary.duration / 1e6)
  io.write('\nbench_p99_ms=', latency:percentile(99) / 1000, '\nbench_refused=', errors.status)
  io.write('\nbench_broken=', errors.connect + errors.read + errors.write + errors.timeout, '\n')
end
