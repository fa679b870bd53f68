"""A plan's run on the real engine, whose process is killed again and again."""

import random
import time

import pytest
from tests.orchestrator.plan_process import PLAN, RUN
from tests.orchestrator.victims import plan_victim

from leeward.state.database import Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("seed", range(2))
def test_killed_for_real_it_keeps_the_order_and_begins_no_vm_twice(tmp_path, seed):
    dice = random.Random(seed)
    told = tmp_path / "told"
    deaths = 0
    while True:
        process = plan_victim(tmp_path)
        # Killed only once it does something.
        size = told.stat().st_size if told.exists() else 0
        while process.is_alive() and (not told.exists() or told.stat().st_size == size):
            time.sleep(0.01)
        process.join(dice.uniform(0, 0.4) if deaths < 8 else 60)
        if process.exitcode is not None:
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        deaths += 1
    assert deaths >= 3
    run = Database(f"sqlite:///{tmp_path}/leeward.db").plans.plan_run(RUN)
    assert run.complete
    lines = [line.split() for line in told.read_text().splitlines()]
    ids = {}
    for what, vm_id, more in lines:
        if what == "begin":
            assert ids.setdefault(vm_id, more) == more
    assert sorted(ids) == [member.vm_id for member in PLAN.members]
    for number in range(len(PLAN.groups) - 1):
        places = [int(vm_id.split(".")[0]) for _, vm_id, _ in lines]
        last = max(n for n, group in enumerate(places) if group == number)
        assert last < min(n for n, group in enumerate(places) if group == number + 1)
