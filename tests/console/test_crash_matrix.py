"""Every part dies, and every line is cut, at every step of every procedure; then all comes back: the promises
hold."""

import itertools
import shutil
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.console.chaos import VM, ChaosWorld
from tests.console.faults import FAULTS, Fault, bring_to_end

from leeward.console.views import FailbackRequest, FailoverRequest
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.procedures import Kind, steps

# Real time, real processes: not for the fast suite.
pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]

# Cells are mostly waiting: several worlds at a time.
WORLDS = 4
# A cut-off source that still reaches the vault: how long it may run beside its successor, at the pace of these tests
# (a look each 50 ms). What it is at the pace of production is told in docs/reliability.md.
WINDOW_S = 1.5


@contextmanager
def a_world():
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="leeward-chaos-", dir=shared if shared.is_dir() else None))
    world = ChaosWorld(folder)
    try:
        world.protect()
        world.write(world.office)
        world.remember(world.office)
        yield world
    finally:
        world.hook = lambda *_: None
        world.tasks_hook = lambda *_: None
        world.mend()
        world.close()
        shutil.rmtree(folder)


def same_bytes(world, source, target):
    """What the guest had written when it went off is what it finds when it is started again."""
    assert world.watch.on[target] == world.watch.off[source]


def settle(world):
    world.service.commit("web")
    world.until(Phase.SETTLED)
    world.wait(lambda: world.service.status("web")[0].state == "enabled")


def ask(world, kind):
    if kind in (Kind.PLANNED, Kind.UNPLANNED):
        world.service.failover("web", Event(kind.value), FailoverRequest())
    elif kind is Kind.FAILBACK:
        world.service.failback("web", FailbackRequest())
    else:
        world.service.commit("web")


def tour(faults):
    """Away and home again with one fault in each procedure: faults of planned, commit, failback, finish, as (what,
    step) or None."""
    with a_world() as world:
        for kind, fault in zip((Kind.PLANNED, Kind.COMMIT, Kind.FAILBACK, Kind.FINISH), faults, strict=True):
            world.write(world.rightful())
            if kind is Kind.FAILBACK:
                world.wait(lambda: world.service.status("web")[0].state == "enabled")
            armed = Fault(world, *fault) if fault else None
            ask(world, kind)
            if armed:
                armed.strike_and_mend()
            else:
                bring_to_end(world)
            world.must_be_sound()
            if kind is Kind.PLANNED:
                same_bytes(world, "office", "recovery")
            if kind is Kind.FAILBACK:
                same_bytes(world, "recovery", "office")
        assert world.phase() is Phase.HOME


def unplanned(source, fault):
    """source: dead; cut (it lives, and the console cannot reach it); near (it lives and answers)."""
    with a_world() as world:
        if source == "dead":
            world.office.stop_agent()
            world.office.hypervisor.force_off(VM)
        elif source == "cut":
            world.cuts["office"] = True
        armed = Fault(world, *fault)
        ask(world, Kind.UNPLANNED)
        armed.strike_and_mend()
        assert world.phase() is Phase.AWAY
        run = world.failovers.last(VM, "web")
        saved = world.vault.log(VM).point(run.result("epoch")["point"])
        older = [point for point in world.vault.log(VM).points() if point.epoch < run.result("epoch")["epoch"]]
        assert older[-1].id == saved.id
        with world.vault.log(VM).open_point(saved.id) as image:
            assert {n: image.disks[n].read(0, d.size) for n, d in image.disks.items()} == world.watch.on["recovery"]
        world.wait(lambda: world.running() == ["recovery"])
        excused = source == "cut" or "console-office" in fault[0] or fault[0].startswith("office")
        windows = world.watch.twice()
        assert all(window < WINDOW_S for window in windows), windows
        world.must_be_sound(twice=windows if excused else ())
        return windows


def in_threads(work, cells):
    """Every cell to its end, several at a time; fails with the first failure and names all."""
    with ThreadPoolExecutor(WORLDS) as pool:
        done = [(cell, pool.submit(work, *cell)) for cell in cells]
    failures = [(cell, future.exception()) for cell, future in done if future.exception()]
    for cell, failure in failures:
        print("failed:", cell, "".join(traceback.format_exception(failure))[-3000:])
    if failures:
        raise failures[0][1]


def tours(fault):
    names = [[step.name for step in steps(kind)] for kind in (Kind.PLANNED, Kind.COMMIT, Kind.FAILBACK, Kind.FINISH)]
    for row in itertools.zip_longest(*names):
        yield ([(fault, step) if step else None for step in row],)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS)
def test_planned_failover_and_failback_with_a_fault_at_every_step(fault):
    in_threads(tour, tours(fault))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", ["dead", "cut", "near"])
@pytest.mark.parametrize("fault", FAULTS)
def test_unplanned_failover_with_a_fault_at_every_step(source, fault):
    # An office that cannot be reached is given no task in which it could die.
    unreached = source != "near" and fault.startswith("office")
    names = [step.name for step in steps(Kind.UNPLANNED) if not (unreached and step.name == "fence")]
    in_threads(unplanned, [(source, (fault, name)) for name in names])


def test_a_part_of_the_matrix():
    """One fault of each kind, each at a step where it hurts; the whole takes minutes."""
    in_threads(
        tour,
        [
            ([("console done", "epoch"), ("recovery after", "settle"), ("office before", "catch-up"), None],),
            (
                [
                    ("office after", "stand-down"),
                    None,
                    ("console begun", "epoch-home"),
                    ("console done", "settle-home"),
                ],
            ),
            ([("recovery before", "plug"), None, ("cut recovery-vault", "last-cycle-away"), None],),
            (
                [
                    ("vault away", "last-cycle"),
                    None,
                    ("office after", "start-home"),
                    ("recovery after", "discard-away"),
                ],
            ),
        ],
    )
    in_threads(
        unplanned,
        [
            ("dead", ("console recorded", "build")),
            ("cut", ("recovery after", "start")),
            ("near", ("office before", "fence")),
            ("near", ("cut console-office", "epoch")),
        ],
    )
