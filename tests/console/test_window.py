"""How long a source that was failed over behind its back goes on, at the pace of production: never seen beside its
successor."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.console.chaos import VM
from tests.console.test_crash_matrix import a_world, ask

from leeward.domain.lifecycle import Phase
from leeward.domain.procedures import Kind
from leeward.orchestrator.assignments import GRACE_S


def seconds_until_off(how):
    """Of a source that the console cannot reach and that reaches the vault, from its epoch's end on."""
    with a_world() as world:
        if how == "paused":
            world.service.set_paused("web", True)
            world.wait(lambda: world.office.agent._ledger.desired.protections[0].paused)
        time.sleep(random.random() * 5)  # anywhere between two looks
        world.cuts["office"] = True
        ask(world, Kind.UNPLANNED)
        world.wait(lambda: world.failovers.last(VM, "web").result("epoch"))
        began = time.monotonic()
        while "office" in world.watch.powered:
            if how == "busy":
                world.write(world.office)
            time.sleep(0.02)
        off = time.monotonic() - began
        world.until(Phase.AWAY, 40)
        assert world.running() == ["recovery"]
        assert world.watch.twice() == []
        return off


@pytest.mark.slow
@pytest.mark.parametrize(("how", "most"), [("idle", GRACE_S), ("busy", GRACE_S), ("paused", GRACE_S)])
def test_a_source_that_reaches_the_vault_is_off_before_its_successor_is_seen(how, most):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(seconds_until_off, [how] * 4))
    print(how, [round(seconds, 2) for seconds in found])
    assert max(found) < most
