-- Posts the same body again and again, and says at the end what came of it, as JSON.
wrk.method = "POST"
wrk.body = os.getenv("BENCH_BODY")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-API-Key"] = os.getenv("BENCH_KEY")

local pause = tonumber(os.getenv("BENCH_PAUSE_MS"))
if pause > 0 then
    function delay()
        return math.random(0, 2 * pause)
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "microseconds": %d, "refused": %d, "lost": %d, "p50": %d, "p99": %d, "max": %d}\n',
        summary.requests, summary.duration, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99), latency.max))
end
