-- redrive: put dead tasks back into their queue, with a fresh count of attempts; or start waiting ones now
-- KEYS record wake; ready scheduled retry dead
-- ARGV 2 from: dead, or waiting (scheduled and retry sets); 3 us between the starts of two, 0: all start now;
--      4 how many have been moved at this pace before; then the ids
-- RETURNS one entry an id: 1 moved, 0 it was not there
-- INVARIANT only what was in the named place moves
local spacing_us, moved = tonumber(ARGV[3]), tonumber(ARGV[4])
local out, woken, later = {}, 0, 0

local function pull(id)
  for p = 1, P do
    local places = ARGV[2] == 'dead' and {dead[p]} or {scheduled[p], retry[p]}
    for _, place in ipairs(places) do
      if call('ZREM', place, id) == 1 then return p end
    end
  end
end

for at = 5, #ARGV do
  local id = ARGV[at]
  local p = pull(id)
  if p then
    local text = call('HGET', record, id)
    local r = text and parse_record(text)
    if r then
      if ARGV[2] == 'dead' then r.attempt, r.reaps = '0', '0' end
      r.state, r.token, r.cause, r.finished = 'Q', '0', '', ''
      call('HSET', record, id, format_record(r))
    end
    local due_ms = math.floor((now_us + moved * spacing_us) / 1000)
    if due_ms > now_ms then
      call('ZADD', scheduled[p], int(due_ms), id)
      later = 1 -- one must hear of it, who may have fallen asleep for longer
    else
      call('ZADD', ready[p], int(now_us + at), id)
      woken = woken + 1
    end
    moved = moved + 1
  end
  out[#out + 1] = p and 1 or 0
end
push_wake(wake, woken + later)
return out
