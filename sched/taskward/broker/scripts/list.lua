-- list: ids of one place, in the order of that place, from after a given id on
-- FLAGS no-writes
-- KEYS running done; ready scheduled retry dead
-- ARGV 2 place (running, done, ready, scheduled, retry, dead); 3 p (1..P, for the last four); 4 most ids; 5 last id seen, or ''; 6 its score
-- RETURNS pairs: id, score
local families = {ready = ready, scheduled = scheduled, retry = retry, dead = dead}
local key = ({running = running, done = done})[ARGV[2]] or families[ARGV[2]][tonumber(ARGV[3])]
local first = 0
if ARGV[5] ~= '' then
  -- Where the last one seen has gone or moved, go on from its score: some may come twice, none is missed.
  local score = call('ZSCORE', key, ARGV[5])
  local rank = score and tonumber(score) == tonumber(ARGV[6]) and call('ZRANK', key, ARGV[5])
  first = rank and rank + 1 or call('ZCOUNT', key, '-inf', '(' .. ARGV[6])
end
return call('ZRANGE', key, first, first + tonumber(ARGV[4]) - 1, 'WITHSCORES')
