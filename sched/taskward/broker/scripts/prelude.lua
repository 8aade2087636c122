-- Shared by every script. The loader puts one line of locals before it: a name per word of the script's KEYS
-- header (those after the `;` are tables with a key per priority), and P, the number of priorities.
-- ARGV[1] is the time in microseconds, or '' for the server's own: the one clock of the whole system.
local call = redis.call

local function int(number) return string.format('%d', number) end

local now_us = tonumber(ARGV[1])
if not now_us then
  local time = call('TIME')
  now_us = time[1] * 1000000 + time[2]
end
local now_ms = math.floor(now_us / 1000)

local function add(list, ...)
  for _, value in ipairs({...}) do list[#list + 1] = value end
end

-- The end of a family key's name is the priority it belongs to. From the front: Lua looks for an end from every place.
local function priority_of(key) return string.match(key, '.*:(.+)') end

-- A record is ten fields between bars (codec.py). nil where the text is not one.
local function parse_record(text)
  local state, token, finished, cause, priority, attempt, worker, queued, started, reaps = string.match(
    text, '^(%u)|(%d+)|(%d*)|([^|]*)|([^|]*)|(%d+)|([^|]*)|(%d+)|(%d*)|(%d+)$')
  if not state then return nil end
  return {state = state, token = token, finished = finished, cause = cause, priority = priority, attempt = attempt,
          worker = worker, queued = queued, started = started, reaps = reaps}
end

local function format_record(r)
  return table.concat({r.state, r.token, r.finished, r.cause, r.priority, r.attempt, r.worker, r.queued, r.started,
                       r.reaps}, '|')
end

-- Of a task that was cancelled while it waited in a place of this priority.
local function cancelled_record(text, priority, cause)
  local r = text and parse_record(text)
  r = r or {attempt = '0', worker = '', queued = int(now_us), started = '', reaps = '0'}
  r.priority, r.state, r.token, r.finished, r.cause = priority, 'C', '0', int(now_ms), cause
  return format_record(r)
end

-- What `cancel` holds of a task, "<cause> <ms of the request>" (codec.py). -> both; nothing where it holds nothing
local function cause_of(text)
  if text then return string.match(text, '^(%S+) ?(%d*)$') end
end

-- Lua hands a few thousand arguments to a command at most.
local function in_chunks(command, key, list)
  for first = 1, #list, 1000 do call(command, key, unpack(list, first, math.min(first + 999, #list))) end
end

-- Idle workers block on `wake`. Its length is bounded: losing a marker costs nothing while another is there.
local WAKE_LIMIT = 64
local function push_wake(wake, n)
  if n <= 0 then return end
  local markers = {}
  for i = 1, math.min(n, WAKE_LIMIT) do markers[i] = '1' end
  if call('RPUSH', wake, unpack(markers)) > WAKE_LIMIT then call('LTRIM', wake, 0, WAKE_LIMIT - 1) end
end

-- A task's history is bounded too: the oldest attempts go first.
local HISTORY_BYTES = 16384
local function append_history(history, id, line)
  local lines = (call('HGET', history, id) or '') .. line .. '\n'
  while #lines > HISTORY_BYTES do
    local cut = string.find(lines, '\n', 1, true)
    if cut >= #lines then break end
    lines = string.sub(lines, cut + 1)
  end
  call('HSET', history, id, lines)
end
