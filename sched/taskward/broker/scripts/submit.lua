-- submit: insert tasks, unless their id or idempotency key is taken; push; wake idle workers
-- KEYS spec idempotency idempotency_expiry wake; ready scheduled retry
-- ARGV 2 MessagePack, an array: retention of idempotency keys ms; replicas that are waited for;
--      limits: how many tasks may wait before each priority is refused, 0 for no limit, -1 for none let in;
--      6 a task: id, number of its priority (1..P), due ('' now, '+ms' from now, Unix ms, or '!' too late for a new task),
--      start_by ms or '', idempotency key or '', "<traceparent>;<JSON>"
-- RETURNS waiting tasks after the call where there is any limit; a digit per task; per replay and conflict the id that is there
--      1 created, 2 replay (the same was submitted before), 3 conflict (a different one was), 4 no room for it,
--      5 too late, and not there
-- INVARIANT an id is in `spec` if and only if it is in exactly one place
local key_ms, awaited, limits, tasks = unpack(cmsgpack.unpack(ARGV[2]))
local WIDTH = 6
-- Texts: Lua writes a number the slow way.
local CREATED, REPLAY, CONFLICT, FULL, LATE = '1', '2', '3', '4', '5'

local limited, waiting = false, 0
for p = 1, P do limited = limited or limits[p] ~= 0 end
if limited then
  for p = 1, P do
    waiting = waiting + call('ZCARD', ready[p]) + call('ZCARD', scheduled[p]) + call('ZCARD', retry[p])
  end
end

local function json_of(text) return string.sub(text, string.find(text, ';', 1, true) + 1) end

local ids = {}
for at = 1, #tasks, WIDTH do ids[#ids + 1] = tasks[at] end
local stored = #ids > 0 and call('HMGET', spec, unpack(ids)) or {}
local created = ',' .. int(now_ms) .. ','
local specs, keys, expiries, to_ready, to_scheduled = {}, {}, {}, {}, {}
for p = 1, P do to_ready[p], to_scheduled[p] = {}, {} end
local new, new_keys, codes, holders, woken = {}, {}, {}, {}, 0
for n, id in ipairs(ids) do
  local at = 1 + (n - 1) * WIDTH
  local p, due, by, key, rest = tasks[at + 1], tasks[at + 2], tasks[at + 3], tasks[at + 4], tasks[at + 5]

  -- The id and spec that this id or idempotency key stands for already; the spec is '' where it is forgotten.
  local holder, text = id, stored[n] or new[id]
  if not text then
    holder = new_keys[key]
    if not holder and key ~= '' and tonumber(call('ZSCORE', idempotency_expiry, key) or 0) > now_ms then
      holder = call('HGET', idempotency, key)
    end
    text = holder and (new[holder] or call('HGET', spec, holder) or '')
  end

  if holder then
    codes[n] = (text == '' or json_of(text) == json_of(rest)) and REPLAY or CONFLICT
    holders[#holders + 1] = holder
    -- WAIT counts the replicas that have this connection's last write: what is there already is written once more.
    if awaited > 0 and text ~= '' then add(specs, holder, text) end
  elseif due == '!' then
    codes[n] = LATE
  elseif limits[p] ~= 0 and waiting >= limits[p] then
    codes[n] = FULL
  else
    if due ~= '' then
      local ms = string.sub(due, 1, 1) == '+' and now_ms + tonumber(due) or tonumber(due)
      due = ms > now_ms and int(ms) or ''
    end
    new[id] = by .. created .. due .. ',' .. rest
    local k = #specs
    specs[k + 1], specs[k + 2] = id, new[id]
    if due == '' then
      local list = to_ready[p]
      k = #list
      list[k + 1], list[k + 2] = now_us + n - 1, id -- first in, first out, also within one call
      woken = woken + 1
    else
      add(to_scheduled[p], due, id)
    end
    if key ~= '' then
      new_keys[key] = id
      add(keys, key, id)
      add(expiries, now_ms + key_ms, key)
    end
    waiting = waiting + 1
    codes[n] = CREATED
  end
end

-- write
in_chunks('HSET', spec, specs)
in_chunks('HSET', idempotency, keys)
in_chunks('ZADD', idempotency_expiry, expiries)
for p = 1, P do
  in_chunks('ZADD', ready[p], to_ready[p])
  in_chunks('ZADD', scheduled[p], to_scheduled[p])
  -- An idle worker sleeps until the next task is due: it must hear of an earlier one.
  if #to_scheduled[p] > 0 and new[call('ZRANGE', scheduled[p], 0, 0)[1]] then woken = woken + 1 end
end
push_wake(wake, woken)
return {limited and waiting or 0, table.concat(codes), unpack(holders)}
