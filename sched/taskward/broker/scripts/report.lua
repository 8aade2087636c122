-- report: a worker says that it lives, and what it has done; or that it leaves
-- FLAGS allow-oom
-- KEYS workers workers_seen claims
-- ARGV 2 worker; 3 what it reports (JSON), '' when it leaves
-- RETURNS now_ms
if ARGV[3] == '' then
  for _, key in ipairs({workers, claims}) do call('HDEL', key, ARGV[2]) end
  call('ZREM', workers_seen, ARGV[2])
else
  call('HSET', workers, ARGV[2], ARGV[3])
  call('ZADD', workers_seen, int(now_ms), ARGV[2])
end
return int(now_ms)
