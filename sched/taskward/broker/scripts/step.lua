-- step: a worker's round trip: settle what has finished, then claim what there are slots for
-- FLAGS allow-oom
-- KEYS spec record ended running done result history cancel fence claims workers_seen wake paused; ready scheduled retry dead
-- ARGV 2 MessagePack, an array: worker; number of this claim, growing; lease ms; retention of finished tasks ms; tasks wanted;
--      the priorities' names; shares: how many of the wanted each priority may fill first;
--      6 a settlement: id, token, verb, argument, and the numbers, among the texts that follow, of its result and of its
--      ended attempt as a line of history, 0 for none
--      then these texts
--      verbs S succeeded, T retry (argument: delay in ms), U the same, but the attempt does not count, D dead,
--      C cancelled (argument: cause), Q release
-- RETURNS now_us, ms until more may be claimed (0: now, -1: nobody knows), expired, verdicts; where there are claims also
--      the token before the first one's, ids, attempts and queued_us, each with blanks between, and a list of specs (nil
--      where it is gone); attempt 0: not claimed, the task has expired or a repeated claim has lost it. Tokens count up
--      a verdict is one letter a settlement: the new state's, = for a replay, ! for a lost lease
-- INVARIANT a task is in `running` if and only if its record says R; a token settles once; a claim's number claims once;
--      the record of what is in `done` is in `ended`, every other in `record`, which so stays small: see docs/design.md
-- One way down, no functions: Lua would look for every local that one of them uses, at every call.
local worker, number, lease_ms, keep_ms, wanted, names, shares, settlements = unpack(cmsgpack.unpack(ARGV[2]))
local WIDTH, TEXTS = 6, 2
local MOST_BYTES = 2097152 -- of the specs of one claim: also a slow line carries them well within the time a call has
local now_text, keep_until, lease_end = int(now_ms), now_ms + keep_ms, now_ms + lease_ms
local match, sub, byte = string.match, string.sub, string.byte

-- ---- Settle.
local ids, verdicts = {}, {}
for at = 1, #settlements, WIDTH do ids[#ids + 1] = settlements[at] end
if #ids > 0 then
  local texts, any_cancel = call('HMGET', record, unpack(ids)), call('HLEN', cancel) > 0
  local settled, left, records, finals, gone, ends, results, uncancel, moves = {}, {}, {}, {}, {}, {}, {}, {}, {}

  -- Plain successes: nearly all there is.
  for n, id in ipairs(ids) do
    local at = 1 + (n - 1) * WIDTH
    local token, value, text = settlements[at + 1], settlements[at + 4], texts[n]
    local head = 'R|' .. token .. '||' -- the beginning of a running record, whose finish and cause are empty
    local plain = settlements[at + 2] == 'S' and not any_cancel and text and sub(text, 1, #head) == head
    verdicts[n] = plain and settled[id] == nil and 'S'
    settled[id] = settled[id] or verdicts[n]
    if verdicts[n] then
      local k = #gone
      left[k + 1], gone[k + 1] = id, id
      finals[2 * k + 1], finals[2 * k + 2] = id, 'S|' .. token .. '|' .. now_text .. sub(text, #head)
      ends[2 * k + 1], ends[2 * k + 2] = keep_until, id
      if value > 0 then add(results, id, ARGV[TEXTS + value]) end
    end
  end

  -- All others, in their order.
  for n, id in ipairs(ids) do
    if not verdicts[n] then
      local at = 1 + (n - 1) * WIDTH
      local token, verb, argument, value = unpack(settlements, at + 1, at + 4)
      local text = texts[n] or call('HGET', ended, id)
      local r = text and parse_record(text)
      if not r or r.token ~= token then
        verdicts[n] = '!'
      elseif r.state ~= 'R' or settled[id] then
        verdicts[n] = '='
      else
        local cause = any_cancel and cause_of(call('HGET', cancel, id))
        if cause then
          uncancel[#uncancel + 1] = id
          if verb == 'T' or verb == 'U' or verb == 'Q' then verb = 'C' end
        end
        if verb == 'U' or verb == 'Q' then r.attempt = int(tonumber(r.attempt) - 1) end
        if verb == 'U' then verb = 'T' end
        local p = P
        for q = 1, P do p = names[q] == r.priority and q or p end
        r.state, r.finished, r.priority = verb, now_text, names[p] -- where it goes: the auditor goes by it
        if verb == 'T' then
          add(moves, {retry[p], now_ms + tonumber(argument), id})
        elseif verb == 'D' then
          add(moves, {dead[p], now_ms, id})
        elseif verb == 'Q' then
          add(moves, {ready[p], r.queued, id})
        else
          if verb == 'C' then r.cause = cause or argument end
          add(ends, keep_until, id)
          add(gone, id)
          if value > 0 then add(results, id, ARGV[TEXTS + value]) end
        end
        left[#left + 1] = id
        add((verb == 'S' or verb == 'C') and finals or records, id, format_record(r))
        verdicts[n], settled[id] = verb, verb
      end
    end
  end

  in_chunks('ZREM', running, left)
  in_chunks('HSET', record, records)
  in_chunks('HDEL', record, gone)
  in_chunks('HSET', ended, finals)
  in_chunks('ZADD', done, ends)
  in_chunks('HSET', result, results)
  in_chunks('HDEL', cancel, uncancel)
  for _, move in ipairs(moves) do call('ZADD', move[1], move[2], move[3]) end
  for n, id in ipairs(ids) do
    local line = settlements[n * WIDTH]
    if line > 0 and verdicts[n] ~= '!' and verdicts[n] ~= '=' then append_history(history, id, ARGV[TEXTS + line]) end
  end
  -- A worker that claims sees these moves itself; one that only settles must tell somebody.
  if wanted == 0 and #moves > 0 then push_wake(wake, 1) end
end
local out = {now_us, 0, 0, table.concat(verdicts)}
if wanted == 0 then return out end

-- ---- Was this claim answered before? The same number again: the reply was lost, so what of it is still this worker's is
-- answered again, with the same tokens, and renewed: the worker counts its lease from the call that it gets an answer to.
-- A lower number: a request that was overtaken by its own repetition claims nothing.
local previous = call('HGET', claims, worker) -- "<number>", and where it claimed " <token before the first> <id> <id> ..."
if not previous then -- its first: should it die before it reports, its entry is forgotten all the same
  call('ZADD', workers_seen, now_ms, worker)
else
  local last, token, taken = match(previous, '^(%d+) ?(%d*)(.*)$')
  if number < tonumber(last) then return out end
  if number == tonumber(last) then
    token = tonumber(token)
    local n, specs, attempts, queued = 0, {}, {}, {}
    for id in string.gmatch(taken, '%S+') do
      n = n + 1
      local r = parse_record(call('HGET', record, id) or '')
      specs[n], attempts[n], queued[n] = call('HGET', spec, id), '0', '0'
      if r and r.token == int(token + n) and r.state == 'R' then
        call('ZADD', running, lease_end, id)
        attempts[n], queued[n] = r.attempt, r.queued
      end
    end
    if n > 0 then add(out, token, taken, table.concat(attempts, ' '), table.concat(queued, ' '), specs) end
    return out
  end
end

-- ---- What is due becomes ready.
local is_paused, next_ms = {}, nil -- next_ms: of the next task that is not due yet, nil where there is none
for _, name in ipairs(call('SMEMBERS', paused)) do is_paused[name] = true end
for p = 1, P do is_paused[p] = is_paused[names[p]] end
if call('EXISTS', unpack(scheduled)) + call('EXISTS', unpack(retry)) > 0 then
  for p = 1, P do
    for _, source in ipairs({scheduled[p], retry[p]}) do
      local first = tonumber(call('ZRANGE', source, 0, 0, 'WITHSCORES')[2])
      if first and first <= now_ms then
        local due = call('ZRANGE', source, '-inf', now_text, 'BYSCORE', 'LIMIT', 0, 256, 'WITHSCORES')
        local arrivals, gone = {}, {}
        for i = 1, #due, 2 do
          gone[#gone + 1] = due[i]
          add(arrivals, math.floor(tonumber(due[i + 1]) * 1000), due[i])
        end
        call('ZREM', source, unpack(gone))
        call('ZADD', ready[p], unpack(arrivals))
        first = tonumber(call('ZRANGE', source, 0, 0, 'WITHSCORES')[2])
      end
      if first and not is_paused[p] and (not next_ms or first < next_ms) then next_ms = first end
    end
  end
end

-- ---- Choose: in the first round each priority's share, in the second what is left, highest first.
local chosen, queued, of, taken, empty = {}, {}, {}, {}, {}
local count, cut = 0, false
for turn = 1, 2 * P do
  local p = (turn - 1) % P + 1
  local n, from = turn <= P and shares[p] or wanted - count, taken[p] or 0
  if n > 0 and not is_paused[p] and not empty[p] then
    local found = call('ZRANGE', ready[p], from, from + n - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      count = count + 1
      chosen[count], queued[count], of[count] = found[i], found[i + 1], p
    end
    taken[p], empty[p] = from + #found / 2, #found / 2 < n
  end
end

-- ---- Tokens and leases for what was chosen, or its end where it has expired.
if count > 0 then
  local specs, size = call('HMGET', spec, unpack(chosen)), 0
  for n = 1, count do
    size = size + #(specs[n] or '')
    if size > MOST_BYTES and n > 1 then -- the rest stays where it is; what was chosen last goes first
      for left = count, n, -1 do
        taken[of[left]] = taken[of[left]] - 1
        chosen[left], queued[left], specs[left] = nil, nil, nil
      end
      cut, count = true, n - 1
      break
    end
  end
  local texts = call('HMGET', record, unpack(chosen))
  local before = math.max(now_us, tonumber(call('GET', fence) or '0'))
  local attempts, records, leases, finals, gone, ends = {}, {}, {}, {}, {}, {}
  local COMMA = 44 -- a spec's first byte, unless it begins with the time by which its task has to start, in ms (codec.py)
  local by_worker, since = '|' .. worker .. '|', '|' .. now_text .. '|'
  for n, id in ipairs(chosen) do
    local body, name, attempt, reaps = specs[n], names[of[n]], '0', '0'
    local r = texts[n] and parse_record(texts[n])
    if r then attempt, reaps = r.attempt, r.reaps end
    local start_by = body and byte(body) ~= COMMA and tonumber(match(body, '^%d+'))
    if start_by and start_by <= now_ms then
      attempts[n] = '0'
      add(finals, id, 'E|0|' .. now_text .. '||' .. name .. '|' .. attempt .. '||' .. queued[n] .. '||' .. reaps)
      add(ends, keep_until, id)
      gone[#gone + 1] = id
    else
      attempt = r and int(attempt + 1) or '1'
      attempts[n] = attempt
      local k = #leases
      records[k + 1] = id
      records[k + 2] = 'R|' .. int(before + n) .. '|||' .. name .. '|' .. attempt .. by_worker .. queued[n] .. since .. reaps
      leases[k + 1], leases[k + 2] = lease_end, id
    end
  end
  call('SET', fence, int(before + count))
  local claimed = table.concat(chosen, ' ')
  call('HSET', claims, worker, int(number) .. ' ' .. int(before) .. ' ' .. claimed)
  for p = 1, P do
    if taken[p] then call('ZREMRANGEBYRANK', ready[p], 0, taken[p] - 1) end
  end
  in_chunks('HSET', record, records)
  in_chunks('ZADD', running, leases)
  in_chunks('HDEL', record, gone)
  in_chunks('HSET', ended, finals)
  in_chunks('ZADD', done, ends)
  out[3] = #ends / 2
  add(out, before, claimed, table.concat(attempts, ' '), table.concat(queued, ' '), specs)
else
  call('HSET', claims, worker, int(number))
end

-- ---- When to come again.
if cut or count == wanted then
  -- What is left is for somebody who sleeps, and who wakes the next one: there are fewer markers than there may be tasks.
  local unmarked = call('LLEN', wake) == 0
  for p = 1, P do
    if unmarked and not is_paused[p] and call('ZCARD', ready[p]) > 0 then
      push_wake(wake, 1)
      unmarked = false
    end
  end
else
  -- Nothing is ready now. A marker left in `wake` would bring somebody for nothing.
  out[2] = next_ms and math.max(0, next_ms - now_ms) or -1
  call('DEL', wake)
end
return out
