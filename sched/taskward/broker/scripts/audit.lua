-- audit: look at some tasks: is each in exactly one place, and does its record say so?
-- FLAGS allow-oom
-- KEYS spec record ended running done result history progress cancel wake; ready scheduled retry dead
-- ARGV 2 repair (1 or 0); 3 retention of finished tasks ms; then ids
-- RETURNS 3 a finding: id, kind, what was done (left, queued, kept, removed)
--      kinds missing_spec (in a place or a record, but there is no task), missing_place (a task in no place),
--      two_places, running_without_lease (its record says it runs, but no lease is there to expire),
--      stale_record (its record tells of another place than the one it is in, or it has two),
--      unknown_priority (it is in no place of ours, and its priority is none of ours: others may know it)
-- INVARIANT only what cannot harm is repaired: a task in no place is queued again, what belongs to no task is removed
local repair, keep_ms = ARGV[2] == '1', tonumber(ARGV[3])
local LETTER = {running = 'R', dead = 'D', retry = 'T'}
local FINISHED = {S = true, C = true, E = true}

local function places_of(id)
  local found = {}
  if call('ZSCORE', running, id) then found[#found + 1] = 'running' end
  if call('ZSCORE', done, id) then found[#found + 1] = 'done' end
  for p = 1, P do
    if call('ZSCORE', ready[p], id) then found[#found + 1] = 'ready' end
    if call('ZSCORE', scheduled[p], id) then found[#found + 1] = 'scheduled' end
    if call('ZSCORE', retry[p], id) then found[#found + 1] = 'retry' end
    if call('ZSCORE', dead[p], id) then found[#found + 1] = 'dead' end
  end
  return found
end

-- A record written at a claim stays as it is until the next: a waiting task may have any but these.
local function fits(r, place)
  if place == 'done' then return r ~= nil and FINISHED[r.state] end
  if LETTER[place] then return r ~= nil and r.state == LETTER[place] end
  return not r or not (r.state == 'R' or r.state == 'D' or FINISHED[r.state])
end

local function remove(id)
  for _, key in ipairs({record, ended, result, history, progress, cancel}) do call('HDEL', key, id) end
  call('ZREM', running, id)
  call('ZREM', done, id)
  for p = 1, P do
    for _, key in ipairs({ready[p], scheduled[p], retry[p], dead[p]}) do call('ZREM', key, id) end
  end
  return 'removed'
end

-- The priority a task was submitted with, codec.py's third field; nil where the spec cannot be read.
local function priority_in(text)
  local _, head_end = string.find(text, ';', 1, true)
  local readable, fields = pcall(cjson.decode, string.sub(text, (head_end or 0) + 1))
  return readable and type(fields) == 'table' and (fields[3] or 'default') or nil
end

local function is_ours(name)
  for p = 1, P do
    if priority_of(ready[p]) == name then return true end
  end
  return false
end

-- Where a task in no place goes: a finished one is kept for its time, any other is run again.
local function put_back(id, r)
  if r and FINISHED[r.state] then
    call('ZADD', done, int(now_ms + keep_ms), id)
    return 'kept'
  end
  local p = P
  for q = 1, P do
    if r and priority_of(ready[q]) == r.priority then p = q end
  end
  if r and r.state == 'D' then -- given up on: it does not run again by itself
    call('ZADD', dead[p], int(now_ms), id)
    return 'kept'
  end
  if r then
    r.state, r.token, r.finished = 'Q', '0', int(now_ms)
    call('HSET', record, id, format_record(r))
  end
  call('ZADD', ready[p], int(now_us), id)
  push_wake(wake, 1)
  return 'queued'
end

local out = {}
for at = 4, #ARGV do
  local id = ARGV[at]
  local places, live, ended_as = places_of(id), call('HGET', record, id), call('HGET', ended, id)
  local text = live or ended_as
  local r = text and parse_record(text) or nil
  local stored = call('HGET', spec, id)
  local priority = stored and #places == 0 and (r and r.priority or priority_in(stored))
  if not stored then
    if #places > 0 or text then add(out, id, 'missing_spec', repair and remove(id) or 'left') end
  elseif priority and not is_ours(priority) then
    add(out, id, 'unknown_priority', 'left')
  elseif #places == 0 then
    local kind = r and r.state == 'R' and 'running_without_lease' or 'missing_place'
    add(out, id, kind, repair and put_back(id, r) or 'left')
  elseif #places > 1 then
    add(out, id, 'two_places', 'left')
  elseif not fits(r, places[1]) or live and ended_as then
    add(out, id, 'stale_record', 'left')
  end
end
return out
