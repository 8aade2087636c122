"""Runs the tests of the scripts without pytest, on one connection: fast enough to do it once for every mutant."""

import importlib
import inspect
import itertools
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.rig import Rig

Case = Callable[[Rig], Awaitable[None]]
FOLDER = Path(__file__).parent.parent / "broker"


def cases(script: str) -> list[tuple[str, Case]]:
    """Every test that needs a rig and nothing else, with its name: first those of `script`, then the others."""
    names = sorted(path.stem for path in FOLDER.glob("test_*.py"))
    own = [name for name in names if name == f"test_{script}" or name.startswith(f"test_{script}_")]
    modules = [importlib.import_module(f"tests.broker.{name}") for name in [*own, *(n for n in names if n not in own)]]
    return [case for module in modules for case in _cases(module)]


def _cases(module: ModuleType) -> Iterator[tuple[str, Case]]:
    for name, function in vars(module).items():
        if not name.startswith("test_") or not inspect.iscoroutinefunction(function):
            continue
        marks = getattr(function, "pytestmark", [])
        if any(mark.name == "xfail" for mark in marks):
            continue
        for chosen in itertools.product(*(_values(mark) for mark in marks if mark.name == "parametrize")):
            values = {name: value for part in chosen for name, value in part.items()}
            if set(inspect.signature(function).parameters) == {"rig", *values}:
                yield f"{module.__name__.rpartition('.')[2]}.{name}", partial(function, **values)


def _values(mark: Any) -> list[dict[str, Any]]:
    """What one parametrize mark gives, a dict a case. Cases with marks of their own are left out."""
    names, given = mark.args
    if isinstance(names, str):
        return [{names: value} for value in given if not hasattr(value, "marks")]
    return [dict(zip(names, values, strict=True)) for values in given if not hasattr(values, "marks")]
