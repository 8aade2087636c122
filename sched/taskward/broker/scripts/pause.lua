-- pause: no worker claims tasks of a priority any more, or they do again
-- FLAGS allow-oom
-- KEYS paused wake
-- ARGV 2 the priority's name; 3 on or off
-- RETURNS 1, or 0 where it was so already
-- INVARIANT what runs goes on, what waits stays
if ARGV[3] == 'on' then return call('SADD', paused, ARGV[2]) end
push_wake(wake, 1)
return call('SREM', paused, ARGV[2])
