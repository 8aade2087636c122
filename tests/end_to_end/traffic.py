"""The traffic script: a working day in minutes, with bursts, slow spells, failures and cancels; seeded."""

import math
import random
import time
from collections.abc import Callable
from typing import Any

from tests.end_to_end.system import Api

PRIORITIES = ("high", "default", "low")
SHARES = (2, 6, 4)


def task(dice: random.Random, *, slow: float) -> dict[str, Any]:
    """One of what the example handlers do; `slow` stretches the sleeping ones."""
    kind = dice.random()
    common = {"priority": dice.choices(PRIORITIES, SHARES)[0]}
    if kind < 0.45:
        return common | {"type": "echo", "payload": {"order": dice.randrange(10**6), "note": "x" * dice.randrange(200)}}
    if kind < 0.85:
        return common | {"type": "sleep", "payload": {"seconds": min(2.0, dice.lognormvariate(-3.2, 0.8) * slow)}}
    if kind < 0.92:
        return common | {"type": "checksum", "payload": {"text": "taskward", "rounds": dice.randrange(1, 400)}}
    if kind < 0.97:
        return common | {"type": "flaky", "payload": {"fail_times": dice.choice((1, 1, 2))}}
    if kind < 0.98:
        return common | {"type": "fail", "payload": {"message": "no luck"}, "max_attempts": 2}
    return common | {"type": "echo", "payload": None, "delay_seconds": dice.uniform(1, 20)}


def run(api: Api, *, seconds: float, seed: int = 7, say: Callable[[str], None] = print) -> int:
    """Submit about 60 tasks a second for so long, in waves. -> how many."""
    dice = random.Random(seed)
    began = time.monotonic()
    submitted = 0
    while (now := time.monotonic() - began) < seconds:
        wave = 1 + 0.7 * math.sin(now / 40)
        slow = 3.0 if 0.55 < (now / seconds) < 0.7 else 1.0
        ids = api.submit_many([task(dice, slow=slow) for _ in range(max(1, round(30 * wave * dice.uniform(0.6, 1.4))))])
        submitted += len(ids)
        if dice.random() < 0.01:  # a burst
            submitted += len(api.submit_many([task(dice, slow=slow) for _ in range(1500)]))
        if dice.random() < 0.05:
            (id,) = api.submit_many([{"type": "sleep", "payload": {"seconds": 30}, "priority": "low"}])
            api.call("POST", f"/tasks/{id}/cancel")
        api.call("POST", "/tasks", {"type": "echo", "priority": "urgent"})  # refused: no such priority
        api.get("/metrics/summary")
        api.get(f"/tasks/{ids[0]}")
        time.sleep(max(0.0, 0.5 - (time.monotonic() - began - now)))
        if now // 60 > (now - 0.5) // 60:
            say(f"{now:.0f} s: {submitted} tasks")
    return submitted
