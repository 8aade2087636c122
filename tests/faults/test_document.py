"""docs/reliability.md names a test for each fault, and forgets none of those here."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
# Where every test is a fault.
FAULTS = ("test_failover.py", "test_outages.py", "test_refusals.py", "test_replies.py")


def named() -> set[str]:
    """As pytest would be given them."""
    return set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", (ROOT / "docs/reliability.md").read_text()))


def test_every_test_it_names_exists() -> None:
    assert len(named()) > 30
    for name in named():
        path, _, test = name.partition("::")
        assert test in TESTS.findall((ROOT / path).read_text()), name


def test_every_fault_is_in_it() -> None:
    for file in FAULTS:
        path = f"tests/faults/{file}"
        assert {f"{path}::{test}" for test in TESTS.findall((ROOT / path).read_text())} <= named()
