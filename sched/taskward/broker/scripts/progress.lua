-- progress: a running task says how far it is
-- KEYS record progress
-- ARGV 2 id; 3 token; 4 the report (JSON)
-- RETURNS 1 written, 0 the lease is lost
-- INVARIANT only the holder of the token writes
local text = call('HGET', record, ARGV[2])
local r = text and parse_record(text)
if not r or r.state ~= 'R' or r.token ~= ARGV[3] then return 0 end
call('HSET', progress, ARGV[2], ARGV[4])
return 1
