-- list: ids of one place, in the order of that place or from its end, from after a given id on
-- FLAGS no-writes
-- KEYS running done; ready scheduled retry dead
-- ARGV 2 place (running, done, ready, scheduled, retry, dead); 3 p (1..P, for the last four); 4 most ids; 5 last id seen, or ''; 6 its score;
--      7 'newest' for what came last to come first
-- RETURNS pairs: id, score
local families = {ready = ready, scheduled = scheduled, retry = retry, dead = dead}
local key = ({running = running, done = done})[ARGV[2]] or families[ARGV[2]][tonumber(ARGV[3])]
local newest = ARGV[7] == 'newest'
local first = 0
if ARGV[5] ~= '' then
  -- Where the last one seen has gone or moved, go on from its score: some may come twice, none is missed.
  local score = call('ZSCORE', key, ARGV[5])
  local there = score and tonumber(score) == tonumber(ARGV[6])
  local rank = there and (newest and call('ZREVRANK', key, ARGV[5]) or call('ZRANK', key, ARGV[5]))
  local low, high = '-inf', '(' .. ARGV[6]
  if newest then low, high = high, '+inf' end
  first = rank and rank + 1 or call('ZCOUNT', key, low, high)
end
local last = first + tonumber(ARGV[4]) - 1
if newest then return call('ZREVRANGE', key, first, last, 'WITHSCORES') end
return call('ZRANGE', key, first, last, 'WITHSCORES')
