-- wrk's script of scripts/overload: counts the answers by status. With an argument, it is the body of a POST.
local threads = {}

function setup(thread) threads[#threads + 1] = thread end

function init(arguments)
   ok, refused, others = 0, 0, 0
   if arguments[1] then
      wrk.method, wrk.body, wrk.headers["Content-Type"] = "POST", arguments[1], "application/json"
   end
end

function response(status)
   if status == 200 then ok = ok + 1 elseif status == 503 then refused = refused + 1 else others = others + 1 end
end

function done(summary, latency)
   local total = { ok = 0, refused = 0, others = 0 }
   for _, thread in ipairs(threads) do
      for name in pairs(total) do total[name] = total[name] + thread:get(name) end
   end
   local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
   local seconds = summary.duration / 1e6
   io.write(string.format('{"ok": %.1f, "refused": %.1f, "others": %d, "lost": %d, "longest": %.2f}\n',
      total.ok / seconds, total.refused / seconds, total.others, lost, latency.max / 1e6))
end
