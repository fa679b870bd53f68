"""The world with an application of several VMs and a console that knows recovery plans. The console can be killed at
any write of its."""

import threading
from pathlib import Path

from tests.console.world import KIB64, ConsoleParts, FarLink, Opener, World

from leeward.console.plan_desk import PlanDesk
from leeward.console.plan_runs import PlanRuns
from leeward.console.plan_scripts import Scripts
from leeward.console.plan_views import PlanAskRequest, PlanRunRequest
from leeward.console.plans import Plans
from leeward.console.views import ProtectRequest
from leeward.domain.vm import Power
from leeward.orchestrator.dispatch import dispatch
from leeward.orchestrator.plan_conductor import PlanConductor
from leeward.wire.jobs import JobKind

DB = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b01"
APP = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b02"
FRONT = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b03"
BARE = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b04"  # never protected
NAMES = {DB: "db", APP: "app", FRONT: "front"}

SHOP = {
    "name": "shop",
    "groups": [
        {"name": "database", "vms": ["db"]},
        {"name": "application", "vms": ["app", "front"]},
    ],
}


class Killed(BaseException):
    """Stands for the death of the console's process."""


class MortalEngine:
    """Plain threads, which die with their console."""

    def __init__(self, advance):
        self.advance = advance
        self.threads = []

    def walk(self, run_id):
        def work():
            try:
                while self.advance(run_id):
                    pass
            except Killed:
                pass

        thread = threading.Thread(target=work, name=run_id, daemon=True)
        self.threads.append(thread)
        thread.start()

    def walking(self):
        return {thread.name for thread in self.threads if thread.is_alive()}


class Fate:
    """Kills the console at its n-th write from now on, before it is done or after."""

    def __init__(self, parts):
        self.parts = parts
        self.writes = 0
        self.at, self.after = None, False
        self.dead = threading.Event()
        self.lock = threading.Lock()
        database = parts.database
        for keeper, names in (
            (database.runs, ("add", "replace")),
            (database.lives, ("move",)),
            (database.plans, ("replace", "begin")),
        ):
            for name in names:
                setattr(keeper, name, self.fatal(getattr(keeper, name)))
        for link in parts.links:
            link.submit = self.fatal(link.submit)

    def fatal(self, deed):
        def done(*given, **more):
            with self.lock:
                self.writes += 1
                fatal = self.at is not None and self.writes == self.at
                if self.dead.is_set():
                    raise Killed
                if fatal and not self.after:
                    self.die()
                found = deed(*given, **more)
                if fatal:
                    self.die()
                return found

        return done

    def die(self):
        self.dead.set()
        self.parts.dead = True
        raise Killed


class PlanParts(ConsoleParts):
    """A console that knows plans."""

    def __init__(self, world, links, database):
        self.world = world
        super().__init__(world, links, database)

    def make_engine(self, conductor):
        self.vms = conductor
        return MortalEngine(dispatch(conductor.advance, lambda run_id: self.conductor.advance(run_id)))

    def start(self):
        scripts = Scripts(self.world.scripts_folder, lambda: self.dead)
        desk = PlanDesk(self.database, self.fleet, self.failovers, scripts)
        self.conductor = PlanConductor(self.database.plans, desk, lambda: self.dead)
        runs = PlanRuns(self.database, self.fleet, desk, self.engine)
        self.plans = Plans(self.database, self.fleet, Opener(self.world), scripts, runs)
        self.service.drills.know_plans(runs, self.plans.tell)
        self.service.drills.know_vault(self.desk.teller)
        self.fate = Fate(self)
        super().start()
        runs.revive()

    def stop(self):
        self.dead = True
        for thread in self.engine.threads:
            thread.join(20)
            assert not thread.is_alive(), thread.name
        self.database.close()


class PlanWorld(World):
    def __init__(self, folder):
        self.trace = []
        self.scripts_folder = Path(folder) / "scripts"
        self.scripts_folder.mkdir(mode=0o700)
        super().__init__(folder, wrap=self._traced)

    def populate(self):
        for number, (vm_id, name) in enumerate(NAMES.items()):
            self.office.hypervisor.add(vm_id, name, {"vda": bytes([number + 1]) * 4 * KIB64})
        self.office.hypervisor.add(BARE, "bare", {"vda": bytes(KIB64)})

    def _traced(self, place, kind, task):
        def done(context):
            found = task(context)
            self.trace.append((kind, NAMES.get(context.job.vm_id, context.job.vm_id)))
            return found

        return done

    def start_console(self):
        parts = PlanParts(self, [FarLink(self.office), FarLink(self.recovery)], "leeward.db")
        self._use(parts)
        self.plans, self.fate = parts.plans, parts.fate

    def start_portal(self):
        """A console at the recovery site that knows nothing but the vault."""
        self.stop_console()
        parts = PlanParts(self, [FarLink(self.recovery)], "portal.db")
        self._use(parts)
        self.plans, self.fate = parts.plans, parts.fate
        self.learner.adopt()
        return self.plans.adopt()

    def revive(self):
        """After a death: wait until nothing of the dead console moves, and start another one."""
        self.stop_console()
        self.start_console()

    # --- what happens -----------------------------------------------------------------------------

    def protect_all(self):
        for name in NAMES.values():
            self.service.protect(name, ProtectRequest(rpo_s=1, app_interval_s=0))
        self.wait(lambda: all(self.service.status(name)[0].failover_possible for name in NAMES.values()))

    def script(self, name, text):
        path = self.scripts_folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def create(self, **changes):
        return self.plans.create({**SHOP, **changes}, "anna")

    def begin(self, kind, **options):
        return self.plans.runs.begin("shop", PlanRunRequest(kind=kind, **options), "anna")

    def ask(self, what):
        return getattr(self.plans.runs, what)("shop", PlanAskRequest(), "anna")

    def last(self):
        return self.plans.runs.last("shop")

    def until_state(self, *states, seconds=40.0):
        return self.wait(lambda: (found := self.last()).state in states and found, seconds)

    def where(self):
        """Where each VM runs now."""
        found = {}
        for place in (self.office, self.recovery):
            for vm_id, name in NAMES.items():
                vm = place.hypervisor._vms.get(vm_id)
                if vm is not None and vm.facts.power is not Power.OFF:
                    assert name not in found, f"{name} runs at two places"
                    found[name] = place.name
        return found

    def did(self, kind):
        """The VMs to which agents did this, in order."""
        return [name for what, name in list(self.trace) if what is kind]

    def states(self):
        return {step.key: step.state for step in self.last().steps}


STOP, START = JobKind.STOP, JobKind.COPY_START
