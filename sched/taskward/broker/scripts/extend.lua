-- extend: renew leases; hear which are lost and which tasks are to be cancelled
-- FLAGS allow-oom
-- KEYS record running cancel
-- ARGV 2 lease ms; then 2 a lease: id, token
-- RETURNS one entry a lease: '' renewed, '!' lost, else the cause for which it is to be cancelled (renewed as well)
-- INVARIANT nobody but the token's holder moves a lease's end
local out, renewed = {}, {}
local ids = {}
for at = 3, #ARGV, 2 do ids[#ids + 1] = ARGV[at] end
if #ids == 0 then return out end
local lease_end = int(now_ms + tonumber(ARGV[2]))

local function read(key)
  local found = {}
  for first = 1, #ids, 1000 do
    add(found, unpack(call('HMGET', key, unpack(ids, first, math.min(first + 999, #ids)))))
  end
  return found
end

local records, causes = read(record), read(cancel)
for n, id in ipairs(ids) do
  local r = records[n] and parse_record(records[n])
  if r and r.state == 'R' and r.token == ARGV[2 + n * 2] then
    add(renewed, lease_end, id)
    out[n] = cause_of(causes[n]) or ''
  else
    out[n] = '!'
  end
end
in_chunks('ZADD', running, renewed)
return out
