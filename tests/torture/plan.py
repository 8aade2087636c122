"""What is done to a system, and when: drawn from a seed, so that it can be done again."""

import random
from dataclasses import dataclass

# (target, what, for how long: least and most seconds, how long the target is left alone afterwards)
_ACTS = (
    ("worker", "kill", 0.0, 0.0, 4.0),
    ("worker", "stop", 0.0, 0.0, 4.0),
    ("worker", "freeze", 0.3, 3.5, 1.0),
    ("api", "kill", 0.0, 0.0, 4.0),
    ("api", "stop", 0.0, 0.0, 4.0),
    ("api", "freeze", 0.3, 2.5, 1.0),
    ("redis", "kill", 0.0, 0.5, 2.0),
    ("redis", "stop", 0.0, 0.5, 2.0),
    ("redis", "freeze", 0.2, 3.0, 1.5),
    ("redis", "flush", 0.0, 0.0, 0.5),
    ("line", "cut", 0.0, 0.0, 0.3),
    ("line", "forget", 0.0, 0.0, 3.0),
    ("line", "refuse", 0.2, 2.0, 1.0),
    ("line", "hold", 0.2, 3.5, 1.5),
    ("line", "delay", 0.2, 1.5, 0.5),
    ("line", "lose", 0.0, 0.0, 0.2),
)
# How many there are of each. A line is the way to Redis: line 0 is the APIs', line 1 the workers', line 2 that of a
# program that submits by itself.
COUNTS = {"worker": 2, "api": 2, "redis": 1, "line": 3}
LEAST_PAUSE, MOST_PAUSE = 0.1, 0.7


@dataclass(frozen=True, slots=True)
class Fault:
    """At `at` seconds, `what` is done to one target for so many seconds."""

    at: float
    target: str
    number: int
    what: str
    seconds: float


def draw(seed: int, seconds: float) -> list[Fault]:
    """The same seed gives the same plan. What happens between the faults is the machine's affair."""
    dice = random.Random(seed)
    free_at: dict[tuple[str, int], float] = {}
    plan: list[Fault] = []
    at = 0.5
    while (at := at + dice.uniform(LEAST_PAUSE, MOST_PAUSE)) < seconds:
        target, what, least, most, rest = dice.choice(_ACTS)
        number = dice.randrange(COUNTS[target])
        lasts = round(dice.uniform(least, most), 2)
        if free_at.get((target, number), 0.0) <= at:
            plan.append(Fault(round(at, 2), target, number, what, lasts))
            free_at[target, number] = at + lasts + rest
    return plan
