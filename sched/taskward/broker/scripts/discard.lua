-- discard: remove a dead task before its time
-- FLAGS allow-oom
-- KEYS spec record result history progress; dead
-- ARGV 2 id
-- RETURNS 1 removed, 0 it was not dead
-- INVARIANT only a dead task goes, and from every key at once
local id = ARGV[2]
for p = 1, P do
  if call('ZREM', dead[p], id) == 1 then
    for _, key in ipairs({spec, record, result, history, progress}) do call('HDEL', key, id) end
    return 1
  end
end
return 0
