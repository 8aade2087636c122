-- sample: depths and ages of the whole queue, and how much of its memory the server has taken
-- FLAGS no-writes
-- KEYS running done cancel workers_seen paused; ready scheduled retry dead
-- ARGV 2 ms after which a silent worker no longer counts
-- RETURNS now_ms, running, cancelling, finished, workers, bytes of memory used, and those it may use
--      (`maxmemory`, or else the machine's; '0' where the server says neither); then 7 a priority: ready, scheduled, retry, dead,
--      oldest queued_us ('' none), earliest retry due ms ('' none), whether it is paused (1 or 0)
-- The APIs report as well; their ids begin with "api:".
local live = 0
for _, id in ipairs(call('ZRANGE', workers_seen, int(now_ms - tonumber(ARGV[2])), '+inf', 'BYSCORE')) do
  if string.sub(id, 1, 4) ~= 'api:' then live = live + 1 end
end

local SECTION = 'memory'
local memory = call('INFO', SECTION)
local function bytes(field) return string.match(memory, '\n' .. field .. ':(%d+)') or '0' end
local most = bytes('maxmemory')
if most == '0' then most = bytes('total_system_memory') end

local out = {int(now_ms), call('ZCARD', running), call('HLEN', cancel), call('ZCARD', done), live,
             bytes('used_memory'), most}
for p = 1, P do
  add(out, call('ZCARD', ready[p]), call('ZCARD', scheduled[p]), call('ZCARD', retry[p]), call('ZCARD', dead[p]),
      call('ZRANGE', ready[p], 0, 0, 'WITHSCORES')[2] or '', call('ZRANGE', retry[p], 0, 0, 'WITHSCORES')[2] or '',
      call('SISMEMBER', paused, priority_of(ready[p])))
end
return out
