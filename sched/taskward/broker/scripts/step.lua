-- step: a worker's round trip: settle what has finished, then claim what there are slots for
-- FLAGS allow-oom
-- KEYS spec record running done result history cancel fence claims wake paused; ready scheduled retry dead
-- ARGV 2 worker; 3 number of this claim, growing; 4 lease ms; 5 retention of finished tasks ms; 6 tasks wanted; 7 settlements;
--      then P shares: how many of the wanted each priority may fill first;
--      then 6 a settlement: id, token, verb, argument, result ('' none), ended attempt as a line of history ('' none)
--      verbs S succeeded, T retry (argument: delay in ms), D dead, C cancelled (argument: cause), Q release
-- RETURNS now_us, ms until more may be claimed (-1: nobody knows), expired, verdicts,
--      then 5 a claim: id, spec ('' where it is gone), token, attempt, queued_us
--      a verdict is one letter a settlement: the new state's, = for a replay, ! for a lost lease
-- INVARIANT a task is in `running` if and only if its record says R; a token settles once; a claim's number claims once
local worker, nonce, lease_ms, keep_ms = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local wanted, settling = tonumber(ARGV[6]), tonumber(ARGV[7])

local index = {}
for p = 1, P do index[priority_of(ready[p])] = p end

-- One settlement: its verdict, and what is to be written for it added to `todo`.
local function settle_one(id, at, text, todo)
  local token, verb, argument, value, line = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local r = text and parse_record(text)
  if not r or r.token ~= token then return '!' end
  if r.state ~= 'R' or todo.seen[id] then return '=' end
  todo.seen[id] = true
  local cause = todo.any_cancel and call('HGET', cancel, id)
  if cause then
    todo.uncancel[#todo.uncancel + 1] = id
    if verb == 'T' or verb == 'Q' then verb = 'C' end
  end
  local p = index[r.priority] or P
  r.state, r.finished = verb, int(now_ms)
  if verb == 'T' then
    todo.moves[#todo.moves + 1] = {retry[p], int(now_ms + tonumber(argument)), id}
  elseif verb == 'D' then
    todo.moves[#todo.moves + 1] = {dead[p], int(now_ms), id}
  elseif verb == 'Q' then
    r.attempt = int(tonumber(r.attempt) - 1)
    todo.moves[#todo.moves + 1] = {ready[p], r.queued, id}
  else
    if verb == 'C' then r.cause = cause or argument end
    todo.done[#todo.done + 1] = int(now_ms + keep_ms)
    todo.done[#todo.done + 1] = id
    if value ~= '' then
      todo.results[#todo.results + 1] = id
      todo.results[#todo.results + 1] = value
    end
  end
  if line ~= '' then todo.lines[#todo.lines + 1] = {id, line} end
  todo.left[#todo.left + 1] = id
  todo.records[#todo.records + 1] = id
  todo.records[#todo.records + 1] = format_record(r)
  return verb
end

local function settle()
  if settling == 0 then return '' end
  local ids, verdicts = {}, {}
  local todo = {seen = {}, left = {}, records = {}, done = {}, results = {}, moves = {}, lines = {}, uncancel = {}}
  for n = 1, settling do ids[n] = ARGV[8 + P + (n - 1) * 6] end
  local texts = call('HMGET', record, unpack(ids))
  todo.any_cancel = call('HLEN', cancel) > 0
  for n, id in ipairs(ids) do verdicts[n] = settle_one(id, 8 + P + (n - 1) * 6, texts[n], todo) end

  in_chunks('ZREM', running, todo.left)
  in_chunks('HSET', record, todo.records)
  in_chunks('ZADD', done, todo.done)
  in_chunks('HSET', result, todo.results)
  in_chunks('HDEL', cancel, todo.uncancel)
  for _, move in ipairs(todo.moves) do call('ZADD', move[1], move[2], move[3]) end
  for _, entry in ipairs(todo.lines) do append_history(history, entry[1], entry[2]) end
  -- A worker that claims sees these moves itself; one that only settles must tell somebody.
  if wanted == 0 and #todo.moves > 0 then push_wake(wake, 1) end
  return table.concat(verdicts)
end

-- Was this claim answered before? The same number again: the reply was lost, so what of it is still this worker's is
-- answered again, with the same tokens. A lower number: a request that was overtaken by its own repetition claims nothing.
local function replay(out)
  local previous = call('HGET', claims, worker) or ''
  local number = tonumber(string.match(previous, '^%d+') or -1)
  if tonumber(nonce) > number then return false end
  out[2] = 0
  if tonumber(nonce) < number then return true end
  for id, token in string.gmatch(string.sub(previous, #nonce + 1), ' (%S+) (%d+)') do
    local r = parse_record(call('HGET', record, id) or '')
    if r and r.token == token and r.state == 'R' then
      add(out, id, call('HGET', spec, id) or '', token, r.attempt, r.queued)
    end
  end
  return true
end

local function promote_due()
  for p = 1, P do
    for _, source in ipairs({scheduled[p], retry[p]}) do
      local due = call('ZRANGE', source, '-inf', int(now_ms), 'BYSCORE', 'LIMIT', 0, 256, 'WITHSCORES')
      if #due > 0 then
        local arrivals, gone = {}, {}
        for i = 1, #due, 2 do
          gone[#gone + 1] = due[i]
          add(arrivals, int(tonumber(due[i + 1]) * 1000), due[i])
        end
        call('ZREM', source, unpack(gone))
        call('ZADD', ready[p], unpack(arrivals))
      end
    end
  end
end

-- First each priority's share, then what is left, highest first. -> ids, their queued_us, their p; taken per p
local function choose(is_paused)
  local ids, queued, of, taken = {}, {}, {}, {}
  local function take(p, n)
    if n <= 0 or is_paused[p] then return end
    local found = call('ZRANGE', ready[p], taken[p], taken[p] + n - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      ids[#ids + 1] = found[i]
      queued[#ids], of[#ids] = int(found[i + 1]), p
    end
    taken[p] = taken[p] + #found / 2
  end
  for p = 1, P do
    taken[p] = 0
    take(p, tonumber(ARGV[7 + p]))
  end
  for p = 1, P do take(p, wanted - #ids) end
  return ids, queued, of, taken
end

local function lease(ids, queued, of, taken, out)
  local specs, texts = call('HMGET', spec, unpack(ids)), call('HMGET', record, unpack(ids))
  local records, leases, ends, kept, expired = {}, {}, {}, {nonce}, 0
  local lease_end, started, keep_until = int(now_ms + lease_ms), int(now_ms), int(now_ms + keep_ms)
  local token = math.max(now_us, tonumber(call('GET', fence) or '0'))
  for i, id in ipairs(ids) do
    local body, name = specs[i] or '', priority_of(ready[of[i]])
    local r = texts[i] and parse_record(texts[i]) or {attempt = '0', reaps = '0'}
    local by = start_by(body)
    if by and by <= now_ms then
      expired = expired + 1
      add(records, id, table.concat({'E', name, r.attempt, '0', '', queued[i], '', started, r.reaps, ''}, '|'))
      add(ends, keep_until, id)
    else
      token = token + 1
      local text, attempt = int(token), int(tonumber(r.attempt) + 1)
      add(records, id, table.concat({'R', name, attempt, text, worker, queued[i], started, '', r.reaps, ''}, '|'))
      add(leases, lease_end, id)
      kept[#kept + 1] = id .. ' ' .. text
      add(out, id, body, text, attempt, queued[i])
    end
  end
  call('SET', fence, int(token))
  call('HSET', claims, worker, table.concat(kept, ' '))
  for p = 1, P do
    if taken[p] > 0 then call('ZREMRANGEBYRANK', ready[p], 0, taken[p] - 1) end
  end
  in_chunks('HSET', record, records)
  in_chunks('ZADD', running, leases)
  in_chunks('ZADD', done, ends)
  out[3] = expired
end

-- -> ms until the next task may be claimed, 0 where one is ready, -1 where none is known
local function next_due(is_paused)
  local first
  for p = 1, P do
    if not is_paused[p] then
      if call('ZCARD', ready[p]) > 0 then return 0 end
      for _, source in ipairs({scheduled[p], retry[p]}) do
        local due = tonumber(call('ZRANGE', source, 0, 0, 'WITHSCORES')[2])
        if due and (not first or due < first) then first = due end
      end
    end
  end
  if not first then return -1 end
  return math.max(0, first - now_ms)
end

local out = {int(now_us), -1, 0, settle()}
if wanted == 0 or replay(out) then return out end
promote_due()
local is_paused, paused_names = {}, {}
for _, name in ipairs(call('SMEMBERS', paused)) do paused_names[name] = true end
for p = 1, P do is_paused[p] = paused_names[priority_of(ready[p])] end
local ids, queued, of, taken = choose(is_paused)
if #ids > 0 then lease(ids, queued, of, taken, out) end
if #ids < wanted then
  out[2] = next_due(is_paused)
  if out[2] ~= 0 then call('DEL', wake) end -- nothing is ready: a marker would wake somebody for nothing
else
  out[2] = 0
end
return out
