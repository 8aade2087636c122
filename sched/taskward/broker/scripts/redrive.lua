-- redrive: put dead tasks back into their queue, with a fresh count of attempts; or start waiting ones now
-- KEYS record wake; ready scheduled retry dead
-- ARGV 2 from: dead, or waiting (scheduled and retry sets); then the ids
-- RETURNS one entry an id: 1 moved, 0 it was not there
-- INVARIANT only what was in the named place moves
local out, woken = {}, 0

local function pull(id)
  for p = 1, P do
    local places = ARGV[2] == 'dead' and {dead[p]} or {scheduled[p], retry[p]}
    for _, place in ipairs(places) do
      if call('ZREM', place, id) == 1 then return p end
    end
  end
end

for at = 3, #ARGV do
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
    call('ZADD', ready[p], int(now_us + at), id)
    woken = woken + 1
  end
  out[#out + 1] = p and 1 or 0
end
push_wake(wake, woken)
return out
