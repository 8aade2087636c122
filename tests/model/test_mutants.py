"""The tests of the tests: each broken guard of each script is noticed, by the scripts' own tests and by the model."""

import itertools

import pytest
import redis
import trio

from taskward.broker import script
from taskward.broker.connection import Connection
from tests.broker.test_contract import SCRIPTS
from tests.model.mutants import MUTANTS, PRELUDE, Mutant, loader
from tests.model.test_model import explore
from tests.support.rig import Rig
from tests.support.runner import cases

_numbers = itertools.count()
# No test takes long unless what it waits for never comes.
CASE_SECONDS = 20.0


@pytest.fixture
def mutated(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts with one guard broken."""
    monkeypatch.setattr(script, "load", loader(mutant))


def test_every_script_has_its_mutants() -> None:
    assert {mutant.script for mutant in MUTANTS} == {*SCRIPTS, PRELUDE}
    assert len({str(mutant) for mutant in MUTANTS}) == len(MUTANTS)


async def test_the_tests_pass_without_a_mutant(connection: Connection, client: "redis.Redis") -> None:
    assert await _first_failure(connection, client, "submit") is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
async def test_the_scripts_tests_notice(
    mutant: Mutant, mutated: None, connection: Connection, client: "redis.Redis"
) -> None:
    assert await _first_failure(connection, client, mutant.script) is not None


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if not mutant.unseen], ids=str)
async def test_the_model_notices(mutant: Mutant, mutated: None, connection: Connection, client: "redis.Redis") -> None:
    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever the machine stumbles over
        await explore(connection, client, examples=1000, steps=30, seeded=True, shrink=False)


async def _first_failure(connection: Connection, client: "redis.Redis", name: str) -> str | None:
    for case, run in cases(name):
        rig = Rig(connection, client, queue=f"mutant-{next(_numbers)}")
        try:
            with trio.fail_after(CASE_SECONDS):
                await run(rig)
        except Exception:  # noqa: BLE001 - whatever it is, it was noticed
            return case
        finally:
            rig.store.clear()
    return None
