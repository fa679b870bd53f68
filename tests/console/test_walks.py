"""Random walks: requests, kills, cuts and a guest that writes, in any order. Then everything is mended: the
promises."""

import random
import time

import pytest
from tests.console.chaos import VM, Died
from tests.console.test_crash_matrix import a_world, in_threads

from leeward.console.views import FailbackRequest, FailoverRequest, ProtectRequest, RetryRequest
from leeward.domain.errors import LeewardError, Refused
from leeward.domain.lifecycle import Event, under_way
from leeward.domain.procedures import Kind
from leeward.domain.runs import RunState
from leeward.domain.vm import Power

# Real time, real processes: not for the fast suite.
pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]

STEPS = 80
# Of each change of a run, and of each task before and after its effect.
KILLED = 0.03


class Walk:
    def __init__(self, world, seed):
        self.world, self.dice = world, random.Random(seed)
        self.done = []
        world.hook, world.tasks_hook = self.on_run, self.on_task
        self.killing = True
        self.unfenced = False

    # --- in the threads of console and agents -----------------------------------------------------------

    def on_run(self, before, after, written):
        if written and any(after.result(fence).get("reached") is False for fence in ("fence", "fence-away")):
            self.unfenced = True
        if written and after.state is RunState.DONE and before.state is not RunState.DONE:
            self.compare(after.kind)
        if self.killing and self.dice.random() < KILLED:
            self.done.append("console dies")
            raise Died

    def on_task(self, place, job, when):
        if place.dead.is_set():
            raise Died
        if self.killing and self.dice.random() < KILLED:
            self.done.append(f"{place.name} dies {when} {job.id}")
            place.die()

    def compare(self, kind):
        """A VM that was moved without loss finds every byte that it was told is durable."""
        watch = self.world.watch
        for wanted, source, target in ((Kind.PLANNED, "office", "recovery"), (Kind.FAILBACK, "recovery", "office")):
            if kind is wanted and watch.on[target] != watch.off[source]:
                self.done.append(f"LOST BYTES in {kind}")

    # --- the walk -----------------------------------------------------------------------------------------

    def step(self):
        deeds = [self.write] * 6 + [self.request] * 8 + [self.cut] * 3 + [self.heal] * 3 + [self.kill] * 2
        deeds += [self.revive] * 5 + [self.pause] * 6
        deed = self.dice.choice(deeds)
        deed()

    def write(self):
        world = self.world
        for place in (world.office, world.recovery):
            vm = place.hypervisor._vms.get(VM)
            if vm is None:
                continue
            with vm.lock:
                if vm.facts.power is not Power.OFF:
                    world.write(place)

    def request(self):
        service = self.world.service
        asks = {
            "planned": lambda: service.failover("web", Event.PLANNED, FailoverRequest()),
            "unplanned": lambda: service.failover("web", Event.UNPLANNED, FailoverRequest()),
            "without the vault": self.without_vault,
            "home without the other site": lambda: service.failback("web", FailbackRequest(unplanned=True)),
            "commit": lambda: service.commit("web"),
            "failback": lambda: service.failback("web", FailbackRequest()),
            "retry": lambda: service.retry("web", RetryRequest()),
            "cancel": lambda: service.cancel("web"),
            "test": lambda: service.start_test("web", "latest"),
            "cleanup": lambda: self.world.failovers.cleanup(VM, "web", "me"),
            "policy": lambda: service.protect("web", ProtectRequest(rpo_s=self.dice.randrange(1, 5))),
            "warm": lambda: service.protect("web", ProtectRequest(warm=self.dice.random() < 0.9)),
        }
        name = self.dice.choice([*asks, "planned", "commit", "commit", "failback", "failback"])
        try:
            asks[name]()
            self.done.append(name)
        except Refused as refused:
            self.done.append(f"{name} refused")
            assert refused.message
            assert refused.hint, refused
        except LeewardError as error:
            self.done.append(f"{name}: {error}")
        except Died:
            self.done.append(f"{name}, console dies in it")

    def without_vault(self):
        """The operator does not lie: he says that it is off at home only where that is so."""
        vm = self.world.office.hypervisor._vms.get(VM)
        off = vm is not None and vm.facts.power is Power.OFF
        request = FailoverRequest(without_vault=True if off else None)
        self.world.service.failover("web", Event.UNPLANNED, request)

    def cut(self):
        world = self.world
        which = self.dice.choice(["office", "recovery", world.office.line, world.recovery.line, world.console_line])
        if isinstance(which, str):
            world.cuts[which] = True
        else:
            which.cut = True
        self.done.append(f"cut {which if isinstance(which, str) else 'a vault line'}")

    def heal(self):
        self.world.cuts.clear()
        for line in (self.world.office.line, self.world.recovery.line, self.world.console_line):
            line.cut = False
        self.done.append("heal")

    def kill(self):
        place = self.dice.choice([self.world.office, self.world.recovery])
        if place.agent:
            place.stop_agent()
        if place is self.world.office and self.dice.random() < 0.3 and VM in place.hypervisor._vms:
            place.hypervisor.force_off(VM)
            self.done.append("the office loses its power")
        self.done.append(f"kill {place.name}")

    def revive(self):
        for place in (self.world.office, self.world.recovery):
            if place.local is None:
                place.stop_agent()
                place.start_agent()
        if self.world.parts.dead:
            self.restart()

    def restart(self):
        try:
            self.world.restart_console()
        except Died:
            self.done.append("console dies while it starts")

    def pause(self):
        time.sleep(self.dice.random() * 0.15)
        if self.world.parts.dead and self.dice.random() < 0.5:
            self.restart()

    # --- and its end --------------------------------------------------------------------------------------

    def end(self):
        """Everything comes back; an operator brings to an end what is under way, forwards or backwards."""
        world = self.world
        self.killing = False
        time.sleep(0.05)  # whoever is just dying is dead then
        world.mend()
        ends = time.monotonic() + 40
        tries = 0
        while world.unfinished() or under_way(world.phase()):
            assert time.monotonic() < ends, world.told()
            for link in world.links:
                link.sync(report=False)
            for run in world.unfinished():
                if run.state is not RunState.STALLED:
                    continue
                tries += 1
                try:
                    if run.kind in (Kind.TEST, Kind.CLEANUP):
                        self.clean_test()
                    elif run.kind in (Kind.COMMIT, Kind.FINISH):
                        world.service.commit("web")
                    elif tries % 4:
                        world.service.retry("web", RetryRequest())
                    else:
                        world.service.cancel("web")
                except LeewardError:
                    pass  # it goes on already
            time.sleep(0.02)
        self.clean_test()
        place = world.rightful()
        if world.running() == []:
            # Its power was lost and came back: at its rightful place it may be started, by whoever does that there.
            place.hypervisor.start(VM)
        windows = world.watch.twice()
        world.wait(lambda: world.running() == [place.name], 10)
        world.must_be_sound(twice=world.watch.twice() if self.unfenced else ())
        assert not [line for line in self.done if line.startswith("LOST")]
        return windows

    def clean_test(self):
        world = self.world
        if world.fleet.view().copy(VM, "test") is not None:
            world.failovers.cleanup(VM, "web", "me")
        else:
            world.failovers._beginner.close_stalled(VM, (Kind.TEST, Kind.CLEANUP))


def walk(seed):
    with a_world() as world:
        walking = Walk(world, seed)
        try:
            for _ in range(STEPS):
                walking.step()
                if not walking.unfenced:
                    assert world.watch.twice() == []
            walking.end()
        except BaseException:
            print(f"seed {seed}: {walking.done}")
            raise


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_walk(seed):
    walk(seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(100, 172, 12))
def test_many_random_walks(first):
    in_threads(walk, [(seed,) for seed in range(first, first + 12)])
