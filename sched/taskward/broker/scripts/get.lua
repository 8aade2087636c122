-- get: everything known of some tasks
-- FLAGS no-writes
-- KEYS spec record ended running done result history progress cancel; ready scheduled retry dead
-- ARGV 2..: the ids
-- RETURNS 8 an id: spec, place, score in that place, record, result, history, progress, cancel
--      '' where there is nothing; place is running, done, ready, scheduled, retry, dead or ''
local function place_of(id)
  local score = call('ZSCORE', running, id)
  if score then return 'running', score end
  score = call('ZSCORE', done, id)
  if score then return 'done', score end
  for p = 1, P do
    for name, key in pairs({ready = ready[p], scheduled = scheduled[p], retry = retry[p], dead = dead[p]}) do
      score = call('ZSCORE', key, id)
      if score then return name, score end
    end
  end
  return '', ''
end

local out = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  local text = call('HGET', spec, id)
  if text then
    local place, score = place_of(id)
    add(out, text, place, score, call('HGET', record, id) or call('HGET', ended, id) or '', call('HGET', result, id) or '',
        call('HGET', history, id) or '', call('HGET', progress, id) or '', call('HGET', cancel, id) or '')
  else
    add(out, '', '', '', '', '', '', '', '')
  end
end
return out
