-- wrk's script: METHOD PATH BODY TOKEN SAMPLE after `--`. In PATH and BODY, @ is one of the sample, # a number
-- that never comes twice.
local method, path, body, sample, number

function init(args)
   method, path, body = args[1], args[2], args[3]
   wrk.headers["Authorization"] = args[4] ~= "" and "Bearer " .. args[4] or nil
   wrk.headers["Content-Type"] = body ~= "" and "application/json" or nil
   sample, number = {}, os.time() * 1000
   for one in args[5]:gmatch("[^,]+") do sample[#sample + 1] = one end
   math.randomseed(7)
end

function filled(text)
   local values = {["@"] = sample[math.random(#sample)], ["#"] = string.format("%d", number)}
   return (text:gsub("[@#]", values))
end

function request()
   number = number + 1
   return wrk.format(method, filled(path), nil, body ~= "" and filled(body) or nil)
end

function done(summary, latency)
   local failed = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "p50": %f, "p99": %f}\n',
      summary.requests, summary.duration / 1e6, failed.status,
      failed.connect + failed.read + failed.write + failed.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3
   ))
end
