-- step: a worker's round trip: settle what has finished, then claim what there are slots for
-- FLAGS allow-oom
-- KEYS spec record running done result history cancel fence claims workers_seen wake paused; ready scheduled retry dead
-- ARGV 2 worker; 3 number of this claim, growing; 4 lease ms; 5 retention of finished tasks ms; 6 tasks wanted; 7 settlements;
--      then P shares: how many of the wanted each priority may fill first;
--      then 6 a settlement: id, token, verb, argument, result ('' none), ended attempt as a line of history ('' none)
--      verbs S succeeded, T retry (argument: delay in ms), U the same, but the attempt does not count, D dead,
--      C cancelled (argument: cause), Q release
-- RETURNS now_us, ms until more may be claimed (0: now, -1: nobody knows), expired, verdicts,
--      then 5 a claim: id, spec ('' where it is gone), token, attempt, queued_us
--      a verdict is one letter a settlement: the new state's, = for a replay, ! for a lost lease
-- INVARIANT a task is in `running` if and only if its record says R; a token settles once; a claim's number claims once
local worker, nonce, lease_ms, keep_ms = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local wanted, settling = tonumber(ARGV[6]), tonumber(ARGV[7])

local index = {}
for p = 1, P do index[priority_of(ready[p])] = p end

-- A settlement other than a plain success: its verdict; what is to be written for it is added to `todo`.
local function settle_one(id, at, text, todo)
  local token, verb, argument, value = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local r = text and parse_record(text)
  if not r or r.token ~= token then return '!' end
  if r.state ~= 'R' or todo.seen[id] then return '=' end
  local cause = todo.any_cancel and cause_of(call('HGET', cancel, id))
  if cause then
    todo.uncancel[#todo.uncancel + 1] = id
    if verb == 'T' or verb == 'U' or verb == 'Q' then verb = 'C' end
  end
  if verb == 'U' or verb == 'Q' then r.attempt = int(tonumber(r.attempt) - 1) end
  if verb == 'U' then verb = 'T' end
  local p = index[r.priority] or P
  r.state, r.finished = verb, int(now_ms)
  if verb == 'T' then
    todo.moves[#todo.moves + 1] = {retry[p], int(now_ms + tonumber(argument)), id}
  elseif verb == 'D' then
    todo.moves[#todo.moves + 1] = {dead[p], int(now_ms), id}
  elseif verb == 'Q' then
    todo.moves[#todo.moves + 1] = {ready[p], r.queued, id}
  else
    if verb == 'C' then r.cause = cause or argument end
    add(todo.done, todo.keep_until, id)
    if value ~= '' then add(todo.results, id, value) end
  end
  todo.left[#todo.left + 1] = id
  add(todo.records, id, format_record(r))
  return verb
end

local function settle()
  if settling == 0 then return '' end
  local ids, verdicts, keep_until, finished = {}, {}, int(now_ms + keep_ms), int(now_ms)
  local left, records, done_at, results, lines = {}, {}, {}, {}, {}
  for n = 1, settling do ids[n] = ARGV[8 + P + (n - 1) * 6] end
  local texts = call('HMGET', record, unpack(ids))
  local any_cancel = call('HLEN', cancel) > 0
  local todo = {seen = {}, left = left, records = records, done = done_at, results = results, moves = {},
                uncancel = {}, any_cancel = any_cancel, keep_until = keep_until}
  for n, id in ipairs(ids) do
    local at = 8 + P + (n - 1) * 6
    local token, text, verdict = ARGV[at + 1], texts[n], nil
    local head = 'R|' .. token .. '||' -- the beginning of a running record, whose finish and cause are empty
    if ARGV[at + 2] == 'S' and not any_cancel and not todo.seen[id] and text and string.sub(text, 1, #head) == head then
      verdict = 'S'
      local k = #records
      records[k + 1], records[k + 2] = id, 'S|' .. token .. '|' .. finished .. string.sub(text, #head)
      k = #done_at
      done_at[k + 1], done_at[k + 2] = keep_until, id
      left[#left + 1] = id
      if ARGV[at + 4] ~= '' then
        k = #results
        results[k + 1], results[k + 2] = id, ARGV[at + 4]
      end
    else
      verdict = settle_one(id, at, text, todo)
    end
    if verdict ~= '!' and verdict ~= '=' then
      todo.seen[id] = true
      if ARGV[at + 5] ~= '' then lines[#lines + 1] = {id, ARGV[at + 5]} end
    end
    verdicts[n] = verdict
  end

  in_chunks('ZREM', running, left)
  in_chunks('HSET', record, records)
  in_chunks('ZADD', done, done_at)
  in_chunks('HSET', result, results)
  in_chunks('HDEL', cancel, todo.uncancel)
  for _, move in ipairs(todo.moves) do call('ZADD', move[1], move[2], move[3]) end
  for _, entry in ipairs(lines) do append_history(history, entry[1], entry[2]) end
  -- A worker that claims sees these moves itself; one that only settles must tell somebody.
  if wanted == 0 and #todo.moves > 0 then push_wake(wake, 1) end
  return table.concat(verdicts)
end

-- Was this claim answered before? The same number again: the reply was lost, so what of it is still this worker's is
-- answered again, with the same tokens, and renewed: the worker counts its lease from the call that it gets an answer to.
-- A lower number: a request that was overtaken by its own repetition claims nothing.
local function replay(out)
  local lease_end = int(now_ms + lease_ms)
  local previous = call('HGET', claims, worker)
  if not previous then -- its first: should it die before it reports, its entry is forgotten all the same
    call('ZADD', workers_seen, int(now_ms), worker)
    return false
  end
  local number = tonumber(string.match(previous, '^%d+'))
  if tonumber(nonce) > number then return false end
  out[2] = 0
  if tonumber(nonce) < number then return true end
  for id, token in string.gmatch(string.sub(previous, #nonce + 1), ' (%S+) (%d+)') do
    local r = parse_record(call('HGET', record, id) or '')
    if r and r.token == token and r.state == 'R' then
      call('ZADD', running, lease_end, id)
      add(out, id, call('HGET', spec, id) or '', token, r.attempt, r.queued)
    end
  end
  return true
end

-- What is due becomes ready. -> the ms of the next task that is not due yet, nil where there is none
local function promote_due(is_paused)
  if call('EXISTS', unpack(scheduled)) + call('EXISTS', unpack(retry)) == 0 then return nil end
  local next_ms
  for p = 1, P do
    for _, source in ipairs({scheduled[p], retry[p]}) do
      local first = tonumber(call('ZRANGE', source, 0, 0, 'WITHSCORES')[2])
      if first and first <= now_ms then
        local due = call('ZRANGE', source, '-inf', int(now_ms), 'BYSCORE', 'LIMIT', 0, 256, 'WITHSCORES')
        local arrivals, gone = {}, {}
        for i = 1, #due, 2 do
          gone[#gone + 1] = due[i]
          add(arrivals, int(tonumber(due[i + 1]) * 1000), due[i])
        end
        call('ZREM', source, unpack(gone))
        call('ZADD', ready[p], unpack(arrivals))
        first = tonumber(call('ZRANGE', source, 0, 0, 'WITHSCORES')[2])
      end
      if first and not is_paused[p] and (not next_ms or first < next_ms) then next_ms = first end
    end
  end
  return next_ms
end

-- First each priority's share, then what is left, highest first. -> ids, their queued_us, their p; taken per p
local function choose(is_paused)
  local ids, queued, of, taken, empty = {}, {}, {}, {}, {}
  local count = 0
  local function take(p, n)
    if n <= 0 or is_paused[p] or empty[p] then return end
    local found = call('ZRANGE', ready[p], taken[p], taken[p] + n - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      count = count + 1
      ids[count], queued[count], of[count] = found[i], found[i + 1], p
    end
    taken[p] = taken[p] + #found / 2
    empty[p] = #found / 2 < n
  end
  for p = 1, P do
    taken[p] = 0
    take(p, tonumber(ARGV[7 + p]))
  end
  for p = 1, P do take(p, wanted - count) end
  return ids, queued, of, taken
end

local function any_ready(is_paused)
  for p = 1, P do
    if not is_paused[p] and call('ZCARD', ready[p]) > 0 then return true end
  end
end

-- Tokens and leases for what was chosen, or its end where it has expired. Adds the claims to `out`.
local function lease(ids, queued, of, taken, out)
  local specs, texts = call('HMGET', spec, unpack(ids)), call('HMGET', record, unpack(ids))
  local records, leases, ends, kept, expired = {}, {}, {}, {nonce}, 0
  local lease_end, started, keep_until = int(now_ms + lease_ms), int(now_ms), int(now_ms + keep_ms)
  local token = math.max(now_us, tonumber(call('GET', fence) or '0'))
  local names, k = {}, #out
  for p = 1, P do names[p] = priority_of(ready[p]) end
  for i, id in ipairs(ids) do
    local body, name, attempt, reaps = specs[i] or '', names[of[i]], '0', '0'
    local r = texts[i] and parse_record(texts[i])
    if r then attempt, reaps = r.attempt, r.reaps end
    local by = start_by(body)
    local at = #records
    if by and by <= now_ms then
      expired = expired + 1
      records[at + 1] = id
      records[at + 2] = 'E|0|' .. started .. '||' .. name .. '|' .. attempt .. '||' .. queued[i] .. '||' .. reaps
      add(ends, keep_until, id)
    else
      token = token + 1
      local text = int(token)
      attempt = r and int(attempt + 1) or '1'
      records[at + 1] = id
      records[at + 2] = 'R|' .. text .. '|||' .. name .. '|' .. attempt .. '|' .. worker .. '|' .. queued[i] .. '|'
        .. started .. '|' .. reaps
      at = #leases
      leases[at + 1], leases[at + 2] = lease_end, id
      kept[#kept + 1] = id .. ' ' .. text
      out[k + 1], out[k + 2], out[k + 3], out[k + 4], out[k + 5] = id, body, text, attempt, queued[i]
      k = k + 5
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

local out = {int(now_us), 0, 0, settle()}
if wanted == 0 or replay(out) then return out end
local is_paused, paused_names = {}, {}
for _, name in ipairs(call('SMEMBERS', paused)) do paused_names[name] = true end
for p = 1, P do is_paused[p] = paused_names[priority_of(ready[p])] end
local next_ms = promote_due(is_paused)
local ids, queued, of, taken = choose(is_paused)
if #ids > 0 then lease(ids, queued, of, taken, out) else call('HSET', claims, worker, nonce) end
if #ids == wanted then
  -- What is left is for somebody who sleeps, and who wakes the next one: there are fewer markers than there may be tasks.
  if call('LLEN', wake) == 0 and any_ready(is_paused) then push_wake(wake, 1) end
else
  -- Nothing is ready now: say when to come again. A marker left in `wake` would bring somebody for nothing.
  out[2] = next_ms and math.max(0, next_ms - now_ms) or -1
  call('DEL', wake)
end
return out
