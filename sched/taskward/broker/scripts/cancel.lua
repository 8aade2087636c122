-- cancel: end a waiting task at once; ask the worker of a running one
-- FLAGS allow-oom
-- KEYS spec record ended running done cancel; ready scheduled retry dead
-- ARGV 2 id; 3 cause; 4 retention of finished tasks ms; 5 channel on which workers listen
-- RETURNS the state it is in now: cancelled, cancelling, or the terminal state it had; '' for an unknown id
-- INVARIANT a terminal task stays as it is; the first cause stands
local id, cause = ARGV[2], ARGV[3]
if call('HEXISTS', spec, id) == 0 then return '' end
local text = call('HGET', record, id)

if call('ZSCORE', running, id) then
  call('HSETNX', cancel, id, cause .. ' ' .. int(now_ms))
  call('PUBLISH', ARGV[5], id)
  return 'cancelling'
end
for p = 1, P do
  for _, place in ipairs({ready[p], scheduled[p], retry[p]}) do
    if call('ZREM', place, id) == 1 then
      call('HSET', ended, id, cancelled_record(text, priority_of(place), cause))
      call('HDEL', record, id)
      call('ZADD', done, int(now_ms + tonumber(ARGV[4])), id)
      return 'cancelled'
    end
  end
  if call('ZSCORE', dead[p], id) then return 'dead' end
end
text = text or call('HGET', ended, id)
local r = text and parse_record(text)
return ({S = 'succeeded', C = 'cancelled', E = 'expired'})[r and r.state] or ''
