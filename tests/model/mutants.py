"""Mutants: every guard of every script, broken by one change of its text. Tests that notice all are worth something."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from taskward.broker import script
from taskward.broker.script import Script

PRELUDE = "prelude"


class Mutant(NamedTuple):
    """`what` is broken in `script` by writing `new` for `old`. `unseen` says why the model cannot notice."""

    script: str
    what: str
    old: str
    new: str = ""
    unseen: str = ""

    def __str__(self) -> str:
        return f"{self.script}: {self.what}"


def loader(mutant: Mutant) -> Callable[[str], Script]:
    """What script.load is while the mutant lives. Raises ValueError where the text is not in the source."""
    real = script.load
    if mutant.script != PRELUDE:
        mutated = _mutated(real(mutant.script), mutant)
        return lambda name: mutated if name == mutant.script else real(name)
    return lambda name: _mutated(real(name), mutant)


def _mutated(loaded: Script, mutant: Mutant) -> Script:
    if loaded.source.count(mutant.old) != 1:
        raise ValueError(f"{mutant}: {loaded.source.count(mutant.old)} places have the text {mutant.old!r}")
    source = loaded.source.replace(mutant.old, mutant.new)
    return replace(loaded, source=source, sha=hashlib.sha1(source.encode()).hexdigest())


_SHORT = "its histories are short"
_FEW = "it has too few tasks"
_DEAF = "it subscribes to nothing"
_SOUND = "its books are sound"
_OF_A_TASK = ("spec", "record", "ended", "result", "history", "progress")

MUTANTS = [
    # ---- what all scripts share
    Mutant(PRELUDE, "history is not bounded", "while #lines > HISTORY_BYTES do", "while false do", _SHORT),
    Mutant(PRELUDE, "history loses its newest", "if cut >= #lines then break end", "", _SHORT),
    Mutant(PRELUDE, "history is overwritten", "(call('HGET', history, id) or '') .. line", "line"),
    Mutant(PRELUDE, "markers are not bounded", "unpack(markers)) > WAKE_LIMIT", "unpack(markers)) > 1e9", _FEW),
    Mutant(PRELUDE, "nobody is woken", "if n <= 0 then return end", "do return end"),
    Mutant(
        PRELUDE,
        "a long list is cut off",
        "for first = 1, #list, 1000 do",
        "for first = 1, math.min(#list, 1000), 1000 do",
        _FEW,
    ),
    # ---- submit
    Mutant(
        "submit",
        "a stored id is taken again",
        "local holder, text = id, stored[n] or new[id]",
        "local holder, text = id, new[id]",
    ),
    Mutant(
        "submit",
        "an id is taken twice in a call",
        "local holder, text = id, stored[n] or new[id]",
        "local holder, text = id, stored[n]",
    ),
    Mutant("submit", "a conflict passes for a replay", "json_of(text) == json_of(rest)", "true"),
    Mutant("submit", "a replay passes for a conflict", "(text == '' or json_of(text) == json_of(rest))", "false"),
    Mutant("submit", "a forgotten holder is a conflict", "text == '' or ", ""),
    Mutant(
        "submit",
        "a key never expires",
        "call('ZSCORE', idempotency_expiry, key) or 0) > now_ms",
        "call('ZSCORE', idempotency_expiry, key) or 0) > 0",
    ),
    Mutant("submit", "a key is not looked up", "holder = call('HGET', idempotency, key)", ""),
    Mutant("submit", "a key is taken twice in a call", "holder = new_keys[key]", "holder = nil"),
    Mutant("submit", "a key is not kept", "in_chunks('HSET', idempotency, keys)"),
    Mutant("submit", "a key's expiry is not kept", "in_chunks('ZADD', idempotency_expiry, expiries)"),
    Mutant("submit", "no depth limit", "limits[p] ~= 0 and waiting >= limits[p]", "false"),
    Mutant("submit", "the limit lets one more in", "waiting >= limits[p]", "waiting > limits[p]"),
    Mutant(
        "submit",
        "every priority may fill it all",
        "limits[p] ~= 0 and waiting >= limits[p]",
        "limits[1] ~= 0 and waiting >= limits[1]",
    ),
    Mutant("submit", "one call passes the limit", "    waiting = waiting + 1\n"),
    Mutant("submit", "scheduled tasks do not count", " + call('ZCARD', scheduled[p])", ""),
    Mutant("submit", "one call forgets its order", "now_us + n - 1", "now_us"),
    Mutant("submit", "everything starts now", "due = ms > now_ms and int(ms) or ''", "due = ''"),
    Mutant("submit", "what is due has to wait", "due = ms > now_ms and int(ms) or ''", "due = int(ms)"),
    Mutant("submit", "a delay counts from 1970", "now_ms + tonumber(due)", "tonumber(due)"),
    Mutant("submit", "an earlier task wakes nobody", "[1]] then woken = woken + 1 end", "[1]] then end"),
    Mutant("submit", "a ready task wakes nobody", "      woken = woken + 1\n    else", "    else"),
    Mutant("submit", "the spec is not kept", "in_chunks('HSET', spec, specs)"),
    Mutant("submit", "the place is not kept", "in_chunks('ZADD', ready[p], to_ready[p])"),
    # ---- step: settling
    Mutant("step", "any token settles", "if not r or r.token ~= token then", "if not r then"),
    Mutant(
        "step",
        "any token succeeds",
        "local head = 'R|' .. token .. '||'",
        "local head = string.match(text or '', '^R|%d+||') or '!'",
    ),
    Mutant(
        "step",
        "a token settles again",
        "elseif r.state ~= 'R' or settled[id] then",
        "elseif settled[id] then",
    ),
    Mutant(
        "step",
        "a token settles twice in a call",
        "elseif r.state ~= 'R' or settled[id] then",
        "elseif r.state ~= 'R' then",
    ),
    Mutant("step", "a token succeeds twice in a call", "plain and settled[id] == nil and", "plain and"),
    Mutant("step", "a settled task stays running", "in_chunks('ZREM', running, left)"),
    Mutant(
        "step",
        "a settled record stays running",
        "in_chunks('HSET', record, records)\n  in_chunks('HDEL', record, gone)",
        "in_chunks('HDEL', record, gone)",
    ),
    Mutant(
        "step",
        "an ended record stays where it was",
        "in_chunks('HSET', record, records)\n  in_chunks('HDEL', record, gone)",
        "in_chunks('HSET', record, records)",
    ),
    Mutant(
        "step",
        "an ended record is lost",
        "in_chunks('HSET', ended, finals)\n  in_chunks('ZADD', done, ends)\n  in_chunks('HSET', result",
        "in_chunks('ZADD', done, ends)\n  in_chunks('HSET', result",
    ),
    Mutant("step", "an end that is told again is refused", "texts[n] or call('HGET', ended, id)", "texts[n]"),
    Mutant(
        "step",
        "an ended task is in no place",
        "in_chunks('ZADD', done, ends)\n  in_chunks('HSET', result",
        "in_chunks('HSET', result",
    ),
    Mutant("step", "a result is not kept", "in_chunks('HSET', result, results)"),
    Mutant("step", "a move goes nowhere", "do call('ZADD', move[1], move[2], move[3]) end", "do end"),
    Mutant("step", "a cancelled task runs again", "if verb == 'T' or verb == 'U' or verb == 'Q' then verb = 'C' end"),
    Mutant(
        "step",
        "a cancelled task is released",
        "if verb == 'T' or verb == 'U' or verb == 'Q' then verb = 'C' end",
        "if verb == 'T' then verb = 'C' end",
    ),
    Mutant("step", "a success leaves the flag", "and not any_cancel and", "and"),
    Mutant("step", "the cause is the whole entry", "cause_of(call('HGET', cancel, id))", "call('HGET', cancel, id)"),
    Mutant("step", "an end leaves the flag", "in_chunks('HDEL', cancel, uncancel)"),
    Mutant("step", "the cause is lost", "if verb == 'C' then r.cause = cause or argument end"),
    Mutant("step", "the cancel's cause is another's", "r.cause = cause or argument", "r.cause = argument"),
    Mutant("step", "a release costs an attempt", "if verb == 'U' or verb == 'Q' then", "if verb == 'U' then"),
    Mutant("step", "an unknown type costs an attempt", "if verb == 'U' or verb == 'Q' then", "if verb == 'Q' then"),
    Mutant("step", "a retry costs none", "if verb == 'U' or verb == 'Q' then", "if verb ~= 'S' then"),
    Mutant("step", "an unknown type is no retry", "if verb == 'U' then verb = 'T' end"),
    Mutant("step", "a release goes to the tail", "{ready[p], r.queued, id}", "{ready[p], now_us, id}"),
    Mutant(
        "step",
        "a retry does not wait",
        "{retry[p], now_ms + tonumber(argument), id}",
        "{retry[p], now_ms, id}",
    ),
    Mutant("step", "a buried task is retried", "{dead[p], now_ms, id}", "{retry[p], now_ms, id}"),
    Mutant("step", "priorities are mixed up", "p = names[q] == r.priority and q or p", "p = P"),
    Mutant(
        "step",
        "a priority that is gone stays in the record",
        "r.finished, r.priority = verb, now_text, names[p]",
        "r.finished = verb, now_text",
        "its priorities stay",
    ),
    Mutant("step", "an attempt leaves no history", "append_history(history, id, ARGV[TEXTS + line])", "local _ = line"),
    Mutant("step", "a refused settlement writes history", " and verdicts[n] ~= '!' and verdicts[n] ~= '='"),
    Mutant("step", "settling wakes nobody", "if wanted == 0 and #moves > 0 then push_wake(wake, 1) end"),
    # ---- step: claiming
    Mutant(
        "step",
        "a repeated claim claims anew",
        "if number == tonumber(last) then",
        "if false then",
    ),
    Mutant(
        "step",
        "an overtaken claim claims",
        "if number < tonumber(last) then return out end",
    ),
    Mutant("step", "a new worker is not seen", "  call('ZADD', workers_seen, now_ms, worker)\n"),
    Mutant(
        "step",
        "an overtaken claim is answered",
        "  if number < tonumber(last) then return out end\n  if number == tonumber(last) then",
        "  if number <= tonumber(last) then",
    ),
    Mutant(
        "step",
        "a replay answers lost leases",
        "if r and r.token == int(token + n) and r.state == 'R' then",
        "if r then",
    ),
    Mutant(
        "step",
        "a replay answers settled tasks",
        "if r and r.token == int(token + n) and r.state == 'R' then",
        "if r and r.token == int(token + n) then",
    ),
    Mutant(
        "step",
        "a replay answers another's lease",
        "if r and r.token == int(token + n) and r.state == 'R' then",
        "if r and r.state == 'R' then",
    ),
    Mutant("step", "a replay does not renew", "        call('ZADD', running, lease_end, id)\n"),
    Mutant(
        "step",
        "a claim is not remembered",
        "call('HSET', claims, worker, int(number) .. ' ' .. int(before) .. ' ' .. claimed)",
    ),
    Mutant("step", "an empty claim is not remembered", "else\n  call('HSET', claims, worker, int(number))"),
    Mutant("step", "a due task is lost", "call('ZADD', ready[p], unpack(arrivals))"),
    Mutant("step", "a due task stays", "call('ZREM', source, unpack(gone))"),
    Mutant("step", "a task starts before it is due", "'-inf', now_text, 'BYSCORE'", "'-inf', '+inf', 'BYSCORE'"),
    Mutant("step", "a due task jumps the queue", "tonumber(due[i + 1]) * 1000)", "tonumber(due[i + 1]))"),
    Mutant(
        "step", "retries are not promoted", "in ipairs({scheduled[p], retry[p]}) do", "in ipairs({scheduled[p]}) do"
    ),
    Mutant("step", "promotion is not bounded", "'LIMIT', 0, 256,", "'LIMIT', 0, 100000,", _FEW),
    Mutant(
        "step",
        "a paused priority is served",
        "if n > 0 and not is_paused[p] and not empty[p] then",
        "if n > 0 and not empty[p] then",
    ),
    Mutant("step", "a paused priority sets the time", "not is_paused[p] and (not next_ms", "(not next_ms"),
    Mutant("step", "shares are ignored", "turn <= P and shares[p] or wanted - count", "wanted - count"),
    Mutant("step", "free slots stay free", "for turn = 1, 2 * P do", "for turn = 1, P do"),
    Mutant(
        "step",
        "more is claimed than wanted",
        "turn <= P and shares[p] or wanted - count",
        "turn <= P and shares[p] or wanted",
    ),
    Mutant("step", "an expired task starts", "if start_by and start_by <= now_ms then", "if false then"),
    Mutant(
        "step",
        "a task starts at its expiry",
        "if start_by and start_by <= now_ms then",
        "if start_by and start_by < now_ms then",
    ),
    Mutant("step", "an expired task is in no place", "in_chunks('ZADD', done, ends)\n  out[3]", "out[3]"),
    Mutant(
        "step",
        "an expired record is lost",
        "in_chunks('HSET', ended, finals)\n  in_chunks('ZADD', done, ends)\n  out[3]",
        "in_chunks('ZADD', done, ends)\n  out[3]",
    ),
    Mutant(
        "step",
        "an expired record stays where it was",
        "in_chunks('ZADD', running, leases)\n  in_chunks('HDEL', record, gone)",
        "in_chunks('ZADD', running, leases)",
    ),
    Mutant("step", "an expired task is not counted", "out[3] = #ends / 2"),
    Mutant("step", "an attempt is not counted", "attempt = r and int(attempt + 1) or '1'"),
    Mutant(
        "step",
        "attempts start over",
        "if r then attempt, reaps = r.attempt, r.reaps end",
        "if r then reaps = r.reaps end",
    ),
    Mutant(
        "step",
        "reaps start over",
        "if r then attempt, reaps = r.attempt, r.reaps end",
        "if r then attempt = r.attempt end",
    ),
    Mutant("step", "a claim has any size", "size > MOST_BYTES", "false", "its payloads are small"),
    Mutant(
        "step",
        "what a claim leaves is lost",
        "taken[of[left]] = taken[of[left]] - 1",
        "local _ = left",
        "its payloads are small",
    ),
    Mutant(
        "step",
        "what a claim leaves is waited for",
        "if cut or count == wanted",
        "if count == wanted",
        "its payloads are small",
    ),
    Mutant("step", "a lease is not written", "in_chunks('ZADD', running, leases)"),
    Mutant("step", "a claimed task stays ready", "call('ZREMRANGEBYRANK', ready[p], 0, taken[p] - 1)"),
    Mutant(
        "step",
        "a claimed record is not written",
        "in_chunks('HSET', record, records)\n  in_chunks('ZADD', running, leases)",
        "in_chunks('ZADD', running, leases)",
    ),
    Mutant("step", "the fence is not kept", "call('SET', fence, int(before + count))"),
    Mutant("step", "the fence is not read", "math.max(now_us, tonumber(call('GET', fence) or '0'))", "now_us"),
    Mutant(
        "step",
        "the fence is the clock's rival",
        "math.max(now_us, tonumber(call('GET', fence) or '0'))",
        "tonumber(call('GET', fence) or '0')",
    ),
    Mutant("step", "one claim has one token", "int(before + n)", "int(before + 1)"),
    Mutant(
        "step", "nobody hears of what is due", "out[2] = next_ms and math.max(0, next_ms - now_ms) or -1", "out[2] = -1"
    ),
    Mutant("step", "the later task sets the time", "first < next_ms", "first > next_ms"),
    Mutant("step", "an idle worker leaves markers", "call('DEL', wake)"),
    Mutant("step", "a busy worker takes the markers", "if cut or count == wanted then", "if false then"),
    Mutant("step", "nobody else is woken for the rest", "      push_wake(wake, 1)\n"),
    Mutant("step", "markers pile up", "local unmarked = call('LLEN', wake) == 0", "local unmarked = true"),
    Mutant("step", "somebody is woken for nothing", " and call('ZCARD', ready[p]) > 0 then", " then"),
    Mutant("step", "somebody is woken for what is paused", "not is_paused[p] and call('ZCARD'", "call('ZCARD'"),
    # ---- extend and progress
    Mutant("extend", "any token renews", " and r.token == ARGV[2 + n * 2]"),
    Mutant("extend", "a settled task is renewed", "r.state == 'R' and "),
    Mutant("extend", "nothing is renewed", "in_chunks('ZADD', running, renewed)"),
    Mutant("extend", "nobody hears of a cancel", "out[n] = cause_of(causes[n]) or ''", "out[n] = ''"),
    Mutant("extend", "only the first thousand", "for first = 1, #ids, 1000 do", "for first = 1, 1, 1000 do", _FEW),
    Mutant("progress", "any token reports", " or r.token ~= ARGV[3]"),
    Mutant("progress", "a settled task reports", " or r.state ~= 'R'"),
    # ---- reap
    Mutant("reap", "a reaped task stays running", "call('ZREM', running, unpack(ids))"),
    Mutant("reap", "the flag stays", "call('HDEL', cancel, unpack(ids))"),
    Mutant(
        "reap",
        "the late holder keeps its token",
        "r.reaps, r.token, r.finished = int(reaps), '0', int(now_ms)",
        "r.reaps, r.finished = int(reaps), int(now_ms)",
    ),
    Mutant("reap", "no limit", "elseif reaps >= most_reaps then", "elseif false then"),
    Mutant("reap", "the limit lets one more pass", "elseif reaps >= most_reaps then", "elseif reaps > most_reaps then"),
    Mutant("reap", "reaps are not counted", "tonumber(r.reaps) + 1", "tonumber(r.reaps)"),
    Mutant("reap", "a cancelled task runs again", "if cause then\n    r.state", "if false then\n    r.state"),
    Mutant("reap", "nobody knows when it was asked to stop", "history_line(r, asked))", "history_line(r))"),
    Mutant("reap", "a lost lease costs an attempt", "r.attempt = int(tonumber(r.attempt) - 1)"),
    Mutant("reap", "a killer does not wait", "int(now_ms + pause * (reaps - 1))", "int(now_ms)"),
    Mutant("reap", "a killer is retried at once", "if reaps > 1 then", "if false then"),
    Mutant("reap", "the first loss waits too", "r.state = reaps > 1 and 'T' or 'Q'", "r.state = 'T'"),
    Mutant(
        "reap",
        "a reaped task goes to the tail",
        "call('ZADD', ready[p], r.queued, id)",
        "call('ZADD', ready[p], int(now_us), id)",
    ),
    Mutant("reap", "a living lease is taken", "'-inf', int(now_ms), 'BYSCORE'", "'-inf', '+inf', 'BYSCORE'"),
    Mutant("reap", "one call takes all", "'LIMIT', 0, tonumber(ARGV[2])", "'LIMIT', 0, -1", _FEW),
    Mutant("reap", "an outage is no reason to wait", "now_ms - tonumber(last) > gap_ms", "false"),
    Mutant("reap", "it always waits", "now_ms - tonumber(last) > gap_ms", "true"),
    Mutant("reap", "it does not wait long", "until_ms = now_ms + hold_ms end", "until_ms = now_ms + 1 end"),
    Mutant("reap", "a clock's step back stops it", " and until_ms <= now_ms + hold_ms"),
    Mutant("reap", "it forgets when it was called", "call('SET', reaping, int(now_ms) .. ' ' .. int(until_ms))"),
    Mutant("reap", "it wakes nobody", "push_wake(wake, woken)"),
    Mutant("reap", "it leaves no history", "append_history(history, id, history_line(r, asked))"),
    Mutant("reap", "the record says running", "    call('HSET', record, id, format_record(r))\n  end", "  end"),
    Mutant("reap", "a cancelled record is lost", "call('HSET', ended, id, format_record(r))"),
    Mutant("reap", "a cancelled record stays where it was", "call('HDEL', record, id)"),
    Mutant(
        "reap",
        "a damaged record is skipped",
        " or unreadable()",
        " or {priority = '', attempt = '1', worker = '', queued = '0', started = '0', reaps = '0', cause = ''}",
        "its records are whole",
    ),
    Mutant(
        "reap",
        "a priority that is gone stays in the record",
        "r.priority = priority_of(ready[p])",
        "local _ = p",
        "its priorities stay",
    ),
    # ---- cancel
    Mutant("cancel", "a running task is not flagged", "call('HSETNX', cancel, id, cause .. ' ' .. int(now_ms))"),
    Mutant("cancel", "the last cause stands", "call('HSETNX', cancel", "call('HSET', cancel"),
    Mutant("cancel", "nobody knows when it was asked to stop", "cause .. ' ' .. int(now_ms)", "cause"),
    Mutant("cancel", "its worker is not told", "call('PUBLISH', ARGV[5], id)", "", _DEAF),
    Mutant(
        "cancel",
        "a waiting task stays where it was",
        "if call('ZREM', place, id) == 1 then",
        "if call('ZSCORE', place, id) then",
    ),
    Mutant("cancel", "a cancelled task is in no place", "call('ZADD', done, int(now_ms + tonumber(ARGV[4])), id)"),
    Mutant(
        "cancel",
        "the record is lost",
        "call('HSET', ended, id, cancelled_record(text, priority_of(place), cause))",
    ),
    Mutant("cancel", "the record stays where it was", "call('HDEL', record, id)"),
    Mutant("cancel", "what has ended is unknown", "text = text or call('HGET', ended, id)"),
    Mutant("cancel", "retries cannot be cancelled", "{ready[p], scheduled[p], retry[p]}", "{ready[p], scheduled[p]}"),
    Mutant(
        "cancel",
        "the dead are cancelled",
        "if call('ZSCORE', dead[p], id) then return 'dead' end",
        "if call('ZREM', dead[p], id) == 1 then call('ZADD', done, int(now_ms), id) return 'cancelled' end",
    ),
    Mutant(
        "cancel",
        "a former holder keeps its token",
        "r.token, r.finished, r.cause = priority, 'C', '0', int(now_ms), cause",
        "r.finished, r.cause = priority, 'C', int(now_ms), cause r.token = r.token or '0'",
    ),
    # ---- purge
    Mutant("purge", "a purged task waits as well", "call('ZREM', place, unpack(ids))"),
    Mutant("purge", "a purged task is in no place", "in_chunks('ZADD', done, ends)"),
    Mutant("purge", "the record is lost", "in_chunks('HSET', ended, records)"),
    Mutant("purge", "the record stays where it was", "call('HDEL', record, unpack(ids))"),
    Mutant("purge", "more is ended than asked for", "0, left - 1)", "0, -1)"),
    Mutant("purge", "retries stay", "{ready[p], scheduled[p], retry[p]}", "{ready[p], scheduled[p]}"),
    Mutant("purge", "it is kept too long", "add(ends, keep_until, ids[i])", "add(ends, keep_until + 1, ids[i])"),
    # ---- pause
    Mutant("pause", "it cannot be undone", "return call('SREM', paused, ARGV[2])", "return 1"),
    Mutant("pause", "it pauses nothing", "return call('SADD', paused, ARGV[2])", "return 1"),
    Mutant("pause", "it wakes nobody", "push_wake(wake, 1)\n", ""),
    # ---- discard
    Mutant("discard", "it stays dead", "if call('ZREM', dead[p], id) == 1 then", "if call('ZSCORE', dead[p], id) then"),
    Mutant("discard", "it takes what lives", "if call('ZREM', dead[p], id) == 1 then", "call('ZREM', dead[p], id) do"),
    Mutant("discard", "something of it stays", "spec, record, result, history, progress}", "spec, record}"),
    Mutant("discard", "its record stays", "{spec, record, result", "{spec, result"),
    Mutant("submit", "what is too late is stored", "elseif due == '!' then", "elseif false then"),
    # ---- redrive
    Mutant("redrive", "attempts are not counted anew", "if ARGV[2] == 'dead' then r.attempt, r.reaps = '0', '0' end"),
    Mutant("redrive", "reaps are not counted anew", "r.attempt, r.reaps = '0', '0'", "r.attempt = '0'"),
    Mutant("redrive", "a started task counts anew", "if ARGV[2] == 'dead' then r.attempt", "if true then r.attempt"),
    Mutant(
        "redrive", "the dead start with the waiting", "{scheduled[p], retry[p]}", "{scheduled[p], retry[p], dead[p]}"
    ),
    Mutant(
        "redrive",
        "the waiting rise with the dead",
        "ARGV[2] == 'dead' and {dead[p]}",
        "ARGV[2] == 'dead' and {dead[p], retry[p]}",
    ),
    Mutant(
        "redrive", "it stays where it was", "if call('ZREM', place, id) == 1 then", "if call('ZSCORE', place, id) then"
    ),
    Mutant("redrive", "it is in no place", "call('ZADD', ready[p], int(now_us + at), id)"),
    Mutant("redrive", "one call forgets its order", "int(now_us + at)", "int(now_us)"),
    Mutant("redrive", "all start at once", "if due_ms > now_ms then", "if false then"),
    Mutant("redrive", "each starts when the one before should", "(now_us + moved", "(now_us + (moved - 1)"),
    Mutant(
        "redrive",
        "those before are forgotten",
        "moved = tonumber(ARGV[3]), tonumber(ARGV[4])",
        "moved = tonumber(ARGV[3]), 0",
    ),
    Mutant(
        "redrive", "one that was not there takes a turn", "    moved = moved + 1\n  end", "  end\n  moved = moved + 1"
    ),
    Mutant("redrive", "nobody hears of a later start", "later = 1 --", "later = 0 --"),
    Mutant("redrive", "it wakes nobody", "push_wake(wake, woken + later)"),
    Mutant(
        "redrive",
        "the former holder keeps its token",
        "r.state, r.token, r.cause, r.finished = 'Q', '0', '', ''",
        "r.state, r.cause, r.finished = 'Q', '', ''",
    ),
    # ---- forget
    *(
        Mutant("forget", f"{key} leaks", f"{{{', '.join(_OF_A_TASK)}}}", f"{{{', '.join(kept)}}}")
        for key in _OF_A_TASK
        for kept in [[other for other in _OF_A_TASK if other != key]]
    ),
    Mutant("forget", "the place leaks", "call('ZREM', place, unpack(ids))"),
    Mutant("forget", "it is too early", "'-inf', int(before), 'BYSCORE'", "'-inf', '+inf', 'BYSCORE'"),
    Mutant("forget", "the dead go with the others", "due(dead[p], now_ms - tonumber(ARGV[3]))", "due(dead[p], now_ms)"),
    Mutant("forget", "the dead stay", "tasks = tasks + drop(due(dead[p], now_ms - tonumber(ARGV[3])), dead[p])"),
    Mutant("forget", "keys leak", "call('HDEL', idempotency, unpack(keys))"),
    Mutant("forget", "keys' expiries leak", "call('ZREM', idempotency_expiry, unpack(keys))"),
    Mutant("forget", "workers leak", "call('HDEL', workers, unpack(silent))", "", "no worker is silent for an hour"),
    Mutant("forget", "claims leak", "call('HDEL', claims, unpack(silent))", "", "no worker is silent for an hour"),
    Mutant("forget", "one call takes all", "'LIMIT', 0, limit", "'LIMIT', 0, -1", _FEW),
    # ---- audit
    Mutant("audit", "it repairs unasked", "ARGV[2] == '1'", "true", _SOUND),
    Mutant("audit", "it never repairs", "ARGV[2] == '1'", "false", _SOUND),
    Mutant("audit", "a ghost is overlooked", "if #places > 0 or text then", "if false then", _SOUND),
    Mutant("audit", "a record alone is overlooked", "if #places > 0 or text then", "if #places > 0 then", _SOUND),
    Mutant("audit", "a task in no place is overlooked", "elseif #places == 0 then", "elseif false then", _SOUND),
    Mutant(
        "audit",
        "others' tasks are taken",
        "elseif priority and not is_ours(priority) then",
        "elseif false then",
        _SOUND,
    ),
    Mutant("audit", "two places are overlooked", "elseif #places > 1 then", "elseif false then", _SOUND),
    Mutant("audit", "a stale record is overlooked", "not fits(r, places[1])", "false", _SOUND),
    Mutant("audit", "a second record is overlooked", " or live and ended_as then", " then", _SOUND),
    Mutant("audit", "an ended task is run again", "if r and FINISHED[r.state] then", "if false then", _SOUND),
    Mutant(
        "audit",
        "a holder keeps its token",
        "r.state, r.token, r.finished = 'Q', '0',",
        "r.state, r.finished = 'Q',",
        _SOUND,
    ),
    Mutant("audit", "a ghost keeps its places", "do call('ZREM', key, id) end", "do end", _SOUND),
    Mutant("audit", "a ghost keeps its lease", "  call('ZREM', running, id)\n", "", _SOUND),
    Mutant(
        "audit", "priorities are mixed up", "if r and priority_of(ready[q]) == r.priority then p = q end", "", _SOUND
    ),
    Mutant("audit", "what is queued again wakes nobody", "  push_wake(wake, 1)\n", "", _SOUND),
    Mutant("audit", "a healthy promotion is reported", "(r.state == 'R' or", "(r.state == 'R' or r.state == 'T' or"),
    # ---- report and the readers
    Mutant("report", "a worker that leaves leaves its claims", "{workers, claims}", "{workers}"),
    Mutant("report", "a worker that leaves is still seen", "call('ZREM', workers_seen, ARGV[2])"),
    Mutant("report", "a worker that lives is not seen", "call('ZADD', workers_seen, int(now_ms), ARGV[2])"),
    Mutant("get", "a running task is nowhere", "if score then return 'running', score end"),
    Mutant("get", "an ended task is nowhere", "if score then return 'done', score end"),
    Mutant("get", "the dead are nowhere", ", dead = dead[p]}", "}"),
    Mutant("get", "a cancel is not shown", "call('HGET', cancel, id) or ''", "''"),
    Mutant("get", "a result is not shown", "call('HGET', result, id) or ''", "''", "it reads no results"),
    Mutant("list", "each page repeats one", "rank + 1 or", "rank or", "its pages are not turned"),
    Mutant(
        "list",
        "one that moved hides others",
        " and tonumber(score) == tonumber(ARGV[6])",
        "",
        "its pages are not turned",
    ),
    Mutant("list", "one that left hides its equals", "'(' .. ARGV[6]", "ARGV[6]", "its pages are not turned"),
    Mutant("list", "a page is too long", "first + tonumber(ARGV[4]) - 1", "-1", "its pages are not turned"),
    Mutant("sample", "what is to be cancelled is not counted", "call('HLEN', cancel)", "0", "it does not look at that"),
    Mutant(
        "sample",
        "what is paused is not told",
        "call('SISMEMBER', paused, priority_of(ready[p]))",
        "0",
        "it does not look at that",
    ),
    Mutant("sample", "a silent worker counts", "int(now_ms - tonumber(ARGV[2]))", "'-inf'", "it does not look at that"),
    Mutant("sample", "running and done are mixed up", "call('ZCARD', running), call", "call('ZCARD', done), call"),
    Mutant(
        "sample",
        "the age is the youngest's",
        "call('ZRANGE', ready[p], 0, 0, 'WITHSCORES')",
        "call('ZRANGE', ready[p], -1, -1, 'WITHSCORES')",
        "it does not look at that",
    ),
]
