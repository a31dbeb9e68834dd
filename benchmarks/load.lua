-- wrk's script: METHOD PATH BODY TOKEN IDS after `--`. In PATH and BODY, @ is an id, # a number that never comes twice.
local method, path, body, ids, number

function init(args)
   method, path, body = args[1], args[2], args[3]
   wrk.headers["Authorization"] = args[4] ~= "" and "Bearer " .. args[4] or nil
   wrk.headers["Content-Type"] = body ~= "" and "application/json" or nil
   ids, number = {}, os.time() * 1000
   for id in args[5]:gmatch("%d+") do ids[#ids + 1] = id end
   math.randomseed(7)
end

function filled(text)
   return (text:gsub("@", ids[math.random(#ids)]):gsub("#", number))
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
