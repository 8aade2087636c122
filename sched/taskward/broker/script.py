"""The Lua scripts, one file each. A script's header is its contract, and its KEYS line is what gets it its keys."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from taskward.broker.keys import Keys

_KEYS = re.compile(r"^-- KEYS ([\w ]+)(?:; ([\w ]+))?$", re.MULTILINE)
_FLAGS = re.compile(r"^-- FLAGS ([\w-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One script, ready to be sent. `named` and `families` are the keys it declares, in the order it gets them."""

    name: str
    source: str
    sha: str
    named: tuple[str, ...]
    families: tuple[str, ...]

    def keys(self, keys: Keys) -> list[str]:
        """KEYS for one queue."""
        return [keys(name) for name in self.named] + [key for family in self.families for key in keys.family(family)]


@cache
def load(name: str) -> Script:
    """Read scripts/<name>.lua, put the prelude and a local per declared key before it."""
    folder = files("taskward.broker").joinpath("scripts")
    body = folder.joinpath(f"{name}.lua").read_text()
    declared = _KEYS.search(body)
    assert declared is not None, f"{name}.lua has no KEYS header"
    named = tuple(declared[1].split())
    families = tuple((declared[2] or "").split())
    flags = _FLAGS.search(body)
    source = "\n".join(
        [
            f"#!lua flags={flags[1]}" if flags else "#!lua",
            *_locals(named, families),
            folder.joinpath("prelude.lua").read_text(),
            body,
        ]
    )
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest(), named, families)  # noqa: S324 - EVALSHA is SHA-1


def _locals(named: tuple[str, ...], families: tuple[str, ...]) -> list[str]:
    lines = []
    if named:
        lines.append(f"local {', '.join(named)} = unpack(KEYS)")
    if families:
        lines.append(f"local P = (#KEYS - {len(named)}) / {len(families)}")
        for n, family in enumerate(families):
            lines.append(f"local {family} = {{unpack(KEYS, {len(named) + 1} + {n} * P, {len(named)} + {n + 1} * P)}}")
    return lines
