-- wrk's script. Arguments after `--`: METHOD PATH BODY TOKEN STATUS SAMPLE [HEADER VALUE]...
-- SAMPLE is a list, separated by commas, whose values are taken in turn. In PATH, BODY and every VALUE, @ stands for
-- the value, # for a number that is never sent twice and $ for a date that is another one each time a value is taken. A value "id=tag" gives @ and ~, the entity tag of that record;
-- the tag is replaced by the one in the answer, so that the next If-Match of this record holds.
local method, path, body, expected, headers, sample, position, number
local tags = {}
local threads = {}

function setup(thread)
   threads[#threads + 1] = thread
end

-- wrk parses every answer for a script that has `response`, so it is defined for those requests alone that need it.
local function check_status(status)
   if status ~= expected then unexpected = unexpected + 1 end
end

local function follow_tags(status, answered, content)
   check_status(status)
   local id = content:match('"id":%s*(%d+)')
   for name, value in pairs(answered) do
      if id and name:lower() == "etag" then tags[id] = value end
   end
end

function init(args)
   method, path, body, expected = args[1], args[2], args[3], tonumber(args[5])
   headers, sample, position, number = {}, {}, 0, os.time() * 1000
   if args[4] ~= "" then wrk.headers["Authorization"] = "Bearer " .. args[4] end
   if body ~= "" then wrk.headers["Content-Type"] = "application/json" end
   for text in args[6]:gmatch("[^,]+") do
      local value, tag = text:match("^([^=]+)=(.+)$")
      sample[#sample + 1] = value or text
      if tag then tags[value] = tag end
   end
   for argument = 7, #args, 2 do headers[args[argument]] = args[argument + 1] end
   unexpected = 0 -- global, as `done` runs in another state and reads it from the threads
   if next(tags) and method ~= "GET" then
      response = follow_tags
   elseif expected >= 300 then
      response = check_status
   end
   checks_status = response ~= nil
end

function request()
   number, position = number + 1, position % #sample + 1
   local value = sample[position]
   local values = {
      ["@"] = value,
      ["#"] = string.format("%d", number),
      ["$"] = string.format("%d-05-17", 1930 + number % 71),
      ["~"] = tags[value],
   }
   local function fill(text) return (text:gsub("[@#$~]", values)) end
   local sent = {}
   for name, content in pairs(wrk.headers) do sent[name] = content end
   for name, content in pairs(headers) do sent[name] = fill(content) end
   return wrk.format(method, fill(path), sent, body ~= "" and fill(body) or nil)
end

function done(summary, latency)
   local failed = summary.errors
   local refused = failed.status
   if threads[1]:get("checks_status") then
      refused = 0
      for _, thread in ipairs(threads) do refused = refused + thread:get("unexpected") end
   end
   io.write(string.format(
      '\n{"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "p50": %f, "p99": %f}\n',
      summary.requests, summary.duration / 1e6, refused,
      failed.connect + failed.read + failed.write + failed.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3
   ))
end
