-- purge: end tasks that wait in one priority, as a cancel would
-- FLAGS allow-oom
-- KEYS record ended done; ready scheduled retry
-- ARGV 2 priority (1..P); 3 how many at most; 4 cause; 5 retention of finished tasks ms
-- RETURNS how many were ended: as many as asked for, and there may be more
-- INVARIANT what runs and what has ended stays as it is
local p, left, cause, keep_until = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], int(now_ms + tonumber(ARGV[5]))

for _, place in ipairs({ready[p], scheduled[p], retry[p]}) do
  local ids = left > 0 and call('ZRANGE', place, 0, left - 1) or {}
  if #ids > 0 then
    local records, ends = {}, {}
    for i, text in ipairs(call('HMGET', record, unpack(ids))) do
      add(records, ids[i], cancelled_record(text, priority_of(place), cause))
      add(ends, keep_until, ids[i])
    end
    in_chunks('HSET', ended, records)
    call('HDEL', record, unpack(ids))
    in_chunks('ZADD', done, ends)
    call('ZREM', place, unpack(ids))
    left = left - #ids
  end
end
return tonumber(ARGV[3]) - left
