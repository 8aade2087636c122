-- reap: take back expired leases
-- FLAGS allow-oom
-- KEYS record ended running done history cancel wake reaping; ready scheduled retry dead
-- ARGV 2 most leases to take; 3 reaps at which a task is dead; 4 pause ms per earlier reap; 5 retention of finished tasks ms;
--      6 gap ms: when nobody has called for so long, 7 nothing is taken for so many ms
-- RETURNS 3 a task: id, priority, new state's letter (Q queued, T retrying, D dead, C cancelled)
-- INVARIANT the late holder's token is gone from the record, so nothing it writes is taken
--      a gap in the calls is an outage: leases that ended in it are their workers' until those could say what they did
local most_reaps, pause, keep_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local gap_ms, hold_ms = tonumber(ARGV[6]), tonumber(ARGV[7])
local index = {}
for p = 1, P do index[priority_of(ready[p])] = p end

local function history_line(r, asked)
  return string.format(
    '{"n":%s,"worker_id":"%s","queued_ms":%s,"started_ms":%s,"finished_ms":%s,"outcome":"reaped","cancel_cause":"lease_lost"%s}',
    r.attempt, r.worker, int(math.floor(tonumber(r.queued) / 1000)), r.started, int(now_ms),
    (asked or '') ~= '' and ',"cancelled_ms":' .. asked or '')
end

-- Stands in for a record that cannot be read. Its reaps are spent: the task goes to the DLQ, where it can be seen.
local function unreadable()
  return {priority = priority_of(ready[P]), attempt = '0', worker = '', queued = int(now_us), started = int(now_ms),
          reaps = int(most_reaps), cause = ''}
end

-- `reaping` holds "<ms of the last call> <ms until which nothing is taken>".
local function held_back()
  local last, until_ms = string.match(call('GET', reaping) or '', '^(%d+) (%d+)$')
  until_ms = tonumber(until_ms or 0)
  if last and now_ms - tonumber(last) > gap_ms then until_ms = now_ms + hold_ms end
  call('SET', reaping, int(now_ms) .. ' ' .. int(until_ms))
  return now_ms < until_ms and until_ms <= now_ms + hold_ms -- a clock that has stepped back holds nothing up
end

local out = {}
if held_back() then return out end
local ids = call('ZRANGE', running, '-inf', int(now_ms), 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[2]))
if #ids == 0 then return out end
local records, causes = call('HMGET', record, unpack(ids)), call('HMGET', cancel, unpack(ids))
call('ZREM', running, unpack(ids))
call('HDEL', cancel, unpack(ids))
local woken = 0
for n, id in ipairs(ids) do
  local r = records[n] and parse_record(records[n]) or unreadable()
  local p, reaps = index[r.priority] or P, tonumber(r.reaps) + 1
  r.priority = priority_of(ready[p]) -- where it goes, also where its own is none of ours: the auditor goes by it
  local cause, asked = cause_of(causes[n])
  append_history(history, id, history_line(r, asked))
  r.reaps, r.token, r.finished = int(reaps), '0', int(now_ms)
  if cause then
    r.state, r.cause = 'C', cause
    call('ZADD', done, int(now_ms + keep_ms), id)
  elseif reaps >= most_reaps then
    r.state, r.cause = 'D', 'lease_lost'
    call('ZADD', dead[p], int(now_ms), id)
  else
    -- A lost lease uses up no attempt; what has cost its worker twice has to wait, so that it cannot take one a second.
    r.attempt = int(tonumber(r.attempt) - 1)
    r.state = reaps > 1 and 'T' or 'Q'
    if reaps > 1 then
      call('ZADD', retry[p], int(now_ms + pause * (reaps - 1)), id)
    else
      call('ZADD', ready[p], r.queued, id)
    end
    woken = woken + 1
  end
  if cause then
    call('HSET', ended, id, format_record(r))
    call('HDEL', record, id)
  else
    call('HSET', record, id, format_record(r))
  end
  add(out, id, r.priority, r.state)
end
push_wake(wake, woken)
return out
