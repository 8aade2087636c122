-- forget: remove what has been kept long enough
-- FLAGS allow-oom
-- KEYS spec record ended done result history progress idempotency idempotency_expiry workers workers_seen claims; dead
-- ARGV 2 most entries of each kind; 3 retention of dead tasks ms; 4 retention of silent workers ms
-- RETURNS tasks forgotten, idempotency keys forgotten, workers forgotten
-- INVARIANT a task is removed from every key at once, and only from a terminal place
local limit = tonumber(ARGV[2])

local function due(key, before)
  return call('ZRANGE', key, '-inf', int(before), 'BYSCORE', 'LIMIT', 0, limit)
end

local function drop(ids, place)
  if #ids == 0 then return 0 end
  for _, key in ipairs({spec, record, ended, result, history, progress}) do call('HDEL', key, unpack(ids)) end
  call('ZREM', place, unpack(ids))
  return #ids
end

local tasks = drop(due(done, now_ms), done)
for p = 1, P do tasks = tasks + drop(due(dead[p], now_ms - tonumber(ARGV[3])), dead[p]) end
local keys = due(idempotency_expiry, now_ms)
if #keys > 0 then
  call('HDEL', idempotency, unpack(keys))
  call('ZREM', idempotency_expiry, unpack(keys))
end
local silent = due(workers_seen, now_ms - tonumber(ARGV[4]))
if #silent > 0 then
  call('HDEL', workers, unpack(silent))
  call('HDEL', claims, unpack(silent))
  call('ZREM', workers_seen, unpack(silent))
end
return {tasks, #keys, #silent}
