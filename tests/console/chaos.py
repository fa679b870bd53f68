"""A world whose parts die at named instants and whose lines are cut, watched for a second primary at every power
change.

"Killed" here is: the thread that does the deed ends at that very place, nothing of what follows it happens, and all
that the part kept in memory is gone. What it had written (database, ledger, job files, spool, vault) is there still.
"""

import threading
import time

from tests.console.world import KIB64, VM, ConsoleParts, CutStore, Died, FarLink, Place, World

from leeward.agent import agent as agent_module
from leeward.agent import follower, guard, lastcycle, owing, sentry, worker
from leeward.console import checks
from leeward.domain.errors import HypervisorError
from leeward.domain.runs import RunState, StepState
from leeward.domain.vm import Power
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.orchestrator import assignments, plan_conductor, turns, waiting
from leeward.recovery.memory import MemoryCopies
from leeward.replication.spool import SpoolingStore
from leeward.state.runs import Runs
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore


def hurry(monkeypatch):
    """Everything that is only patience, shortened."""
    monkeypatch.setattr(waiting, "_POLL_S", 0.004)
    monkeypatch.setattr(waiting, "_LOOK_S", 0.02)
    monkeypatch.setattr(waiting, "FENCE_ABSENT_S", 0.1)
    monkeypatch.setattr(waiting, "FENCE_S", 1.5)
    monkeypatch.setattr(turns, "_AGAIN_S", 0.02)
    monkeypatch.setattr(plan_conductor, "_POLL_S", 0.02)
    monkeypatch.setattr(assignments, "GRACE_S", 1.0)
    monkeypatch.setattr(checks, "_PATIENCE_S", 0.5)
    monkeypatch.setattr(guard, "_LOOK_S", 0.02)
    monkeypatch.setattr(lastcycle, "_PAUSE_S", 0.01)
    monkeypatch.setattr(worker, "_REIGN_S", 0.05)
    monkeypatch.setattr(worker, "_FENCED_RETRY_S", 0.02)
    monkeypatch.setattr(worker, "next_start", lambda began, ended, usual, rpo: ended + 0.03)
    monkeypatch.setattr(worker, "backoff", lambda failures: 0.03)
    monkeypatch.setattr(sentry, "LOOK_S", 0.05)
    monkeypatch.setattr(sentry, "_PERIOD_S", 0.02)
    monkeypatch.setattr(follower, "_LOOK_S", 0.02)
    monkeypatch.setattr(follower, "_CACHE_S", 0.01)
    monkeypatch.setattr(follower, "pace", lambda rpo: 0.05)
    monkeypatch.setattr(follower, "_LONGEST_S", 0.05)
    monkeypatch.setattr(owing, "_PERIOD_S", 0.02)
    monkeypatch.setattr(owing, "_LATELY_S", 0.05)
    monkeypatch.setattr(agent_module, "LOOK_S", 0.05)
    monkeypatch.setattr(agent_module, "HOSTS_CACHE_S", 0.05)


class Watch:
    """Where the VM is live, known at the instant of every change: it has power, and a recovered one is plugged in.

    windows: spans in which it was live at both sites.
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.powered, self.plugged = set(), {"office"}
        self.windows, self.since = [], None
        self.off, self.on = {}, {}  # place → disks as it last went off, as it last was started

    def power(self, name, power, disks):
        with self.lock:
            if power is Power.OFF:
                if name in self.powered:
                    self.off[name] = disks
                self.powered.discard(name)
            else:
                if name not in self.powered:
                    self.on[name] = disks
                self.powered.add(name)
            self.changed()

    def plug(self, name, plugged):
        with self.lock:
            (self.plugged.add if plugged else self.plugged.discard)(name)
            self.changed()

    def changed(self):
        twice = len(self.powered & self.plugged) > 1
        if twice and self.since is None:
            self.since = time.monotonic()
        if not twice and self.since is not None:
            self.windows.append(time.monotonic() - self.since)
            self.since = None

    def twice(self):
        with self.lock:
            return self.windows + ([time.monotonic() - self.since] if self.since else [])


class WatchedCopies(MemoryCopies):
    """The cable is seen as well."""

    def __init__(self, place):
        super().__init__(place.hypervisor, place.open_vault, place.replicas)
        self.place = place

    def plug(self, vm_id, purpose):
        found = super().plug(vm_id, purpose)
        if purpose == "failover":
            self.place.world.watch.plug(self.place.name, True)
        return found

    def discard(self, vm_id, purpose):
        super().discard(vm_id, purpose)
        if purpose == "failover":
            self.place.world.watch.plug(self.place.name, False)


class WatchedHypervisor(MemoryHypervisor):
    def __init__(self, name, watch):
        super().__init__(name)
        self.watch = watch
        self.broken = False  # cannot start anything

    def start(self, vm_id):
        if self.broken:
            raise HypervisorError("no memory is left", subject=vm_id)
        self._watched(vm_id, super().start)

    def shutdown(self, vm_id, timeout_s):
        return self._watched(vm_id, super().shutdown, timeout_s)

    def force_off(self, vm_id):
        self._watched(vm_id, super().force_off)

    def _watched(self, vm_id, deed, *arguments):
        """The deed and its note are one: nobody can see the one without the other."""
        vm = self._vm(vm_id)
        with vm.lock, self.watch.lock:
            result = deed(vm_id, *arguments)
            if vm_id == VM:
                disks = {name: bytes(data) for name, data in vm.disks.items()}
                self.watch.power(self.name, vm.facts.power, disks)
            return result

    def add(self, vm_id, name, disks, power=Power.RUNNING):
        vm = super().add(vm_id, name, disks, power)
        if vm_id == VM:
            self.watch.power(self.name, power, dict(disks))
        return vm

    def remove(self, vm_id):
        if vm_id == VM:
            self.watch.power(self.name, Power.OFF, {})
        super().remove(vm_id)


class ChaosPlace(Place):
    """dead: set at the instant of a kill; what is left of the process is swept up by `stop_agent`."""

    def __init__(self, world, name, site, folder):
        super().__init__(world, name, site, folder)
        self.copies = WatchedCopies(self)
        self.dead = threading.Event()
        self.spools, self.aside = {}, []

    def make_hypervisor(self):
        return WatchedHypervisor(self.name, self.world.watch)

    def spooled(self, vm_id):
        spool = self.spools.setdefault(vm_id, MemoryStore())

        def set_aside():
            for info in list(spool.scan("")):
                self.aside.append((info.key, spool.get(info.key)))
                spool.delete(info.key)

        store = SpoolingStore(self.line, spool, 1 << 20, set_aside)
        return Vault.open(store, keys=self.world.keys), store

    def die(self):
        """At this instant, in whatever thread of the agent."""
        self.dead.set()
        self.local = None
        with self.jobs._lock:
            self.jobs._running = False
        raise Died

    def stop_agent(self):
        if self.agent:
            self.local = None
            self.follower.stop(5)
            self.jobs.stop(5)
            self.agent.stop()
            self.agent = self.jobs = self.follower = None
        self.dead.clear()


class DurableLink(FarLink):
    """A far agent as `leeward.console.links.AgentLink` promises it: what was given survives the console."""

    def __init__(self, place, box):
        self.place = place
        self.box = box  # outlives this console
        self.cut_from_here = lambda: place.world.cuts.get(place.name, False)
        self.known = box.setdefault("report", FarLink(place).known)
        self.known_hosts = box.setdefault("hosts", [])
        self.known_jobs = {}
        self.lock = box.setdefault("lock", threading.RLock())

    @property
    def present(self):
        return not self.cut_from_here() and self.place.local is not None

    def sync(self, report=True):
        local = self.place.local
        if self.cut_from_here() or local is None:
            return
        with self.lock:
            wish = self.box.get("wish")
            if wish is not None:
                local.apply(wish)
            orders = self.box.setdefault("orders", [])
            while orders:
                kind, order = orders[0]
                (local.submit if kind == "submit" else local.release)(order)
                orders.pop(0)
            if report:
                self.known = self.box["report"] = local.report()
                self.known_hosts = self.box["hosts"] = local.hosts()
            self.known_jobs = {found.id: found for found in local.jobs()}

    def apply(self, desired):
        with self.lock:
            wish = self.box.get("wish")
            if wish is None or wish.generation < desired.generation:
                self.box["wish"] = desired
        self.sync(report=False)

    def submit(self, job):
        with self.lock:
            self.box.setdefault("orders", []).append(("submit", job))
        self.sync(report=False)

    def job(self, job_id):
        self.sync(report=False)
        return self.known_jobs.get(job_id)

    def release(self, job_id):
        with self.lock:
            orders = self.box.setdefault("orders", [])
            waiting_here = [order for order in orders if order[0] == "submit" and order[1].id == job_id]
            for order in waiting_here:
                orders.remove(order)
            orders.append(("release", job_id))
        self.sync(report=False)


class TrippedRuns(Runs):
    """hook(run before, run after, written): called around every change of a run; may raise Died."""

    def __init__(self, engine, hook):
        super().__init__(engine)
        self.hook = hook

    def replace(self, run_id, change):
        seen = []

        def checked(before):
            after = change(before)
            seen[:] = [before, after]
            self.hook(before, after, False)
            return after

        result = super().replace(run_id, checked)
        self.hook(seen[0], seen[1], True)
        return result


def while_running(step, deed):
    """A world's hook: do this once it is written down that a step of a run has begun."""

    def hook(before, after, written):
        if written and any(record.name == step and record.state is StepState.RUNNING for record in after.steps):
            deed()

    return hook


class ChaosWorld(World):
    place_type = ChaosPlace

    def __init__(self, folder):
        self.watch = Watch()
        self.cuts, self.boxes = {}, {}
        self.hook = lambda before, after, written: None
        self.console_died = threading.Event()
        self.known_points = {}
        self.tasks_hook = lambda place, kind, when: None
        super().__init__(folder, wrap=self._wrapped)
        self.console_line = CutStore(self.store)
        self.console_vault = Vault.open(self.console_line, keys=self.keys)

    def _wrapped(self, place, kind, task):
        def work(context):
            self.tasks_hook(place, context.job, "before")
            result = task(context)
            self.tasks_hook(place, context.job, "after")
            return result

        return work

    def open_vault_of_console(self):
        return getattr(self, "console_vault", self.vault)

    def make_links(self, places, database):
        return [DurableLink(place, self.boxes.setdefault((database, place.name), {})) for place in places]

    def make_runs(self, database, parts):
        def hook(before, after, written):
            if parts.dead:
                raise Died
            try:
                self.hook(before, after, written)
            except Died:
                parts.dead = True
                self.console_died.set()
                raise

        return TrippedRuns(database._engine, hook)

    def wait(self, condition, seconds=20.0):
        def polled():
            for link in self.links:  # a far agent asks by itself, whatever the console does
                link.sync(report=False)
            return condition()

        return super().wait(polled, seconds)

    def restart_console(self):
        self.stop_console()
        self.console_died.clear()
        self.start_console()

    def mend_lines(self):
        self.cuts.clear()
        for line in (self.office.line, self.recovery.line, self.console_line):
            line.cut = False

    def mend(self):
        """Everything comes back."""
        self.mend_lines()
        for place in (self.office, self.recovery):
            if place.local is None:
                place.stop_agent()
                place.start_agent()
        if self.parts.dead:
            self.restart_console()

    # --- promises -----------------------------------------------------------------------------------

    def remember(self, place):
        """All that the guest was told is durable is in the vault: keep the newest point's contents for comparison."""
        self.until_current(place)
        point = self.vault.log(VM).point("latest").id
        self.known_points[point] = self.newest()

    def check_points(self):
        """No committed recovery point is lost or altered. → how many were compared."""
        for point, disks in self.known_points.items():
            with self.vault.log(VM).open_point(point) as image:
                assert {n: image.disks[n].read(0, d.size) for n, d in image.disks.items()} == disks, point
        return len(self.known_points)

    def unfinished(self):
        states = (RunState.RUNNING, RunState.UNDOING, RunState.STALLED)
        return self.database.runs.find(vm_id=VM, states=states)

    def nothing_left(self):
        """Once nothing is under way. → what is left behind."""
        self.desk.let_go()
        left = [f"run {run.kind} {run.state}" for run in self.unfinished()]
        rightful = self.rightful()
        for place in (self.office, self.recovery):
            left += [f"{place.name}: job {report.id} {report.state}" for report in place.jobs.jobs()]
            left += [f"{place.name}: job file {path.name}" for path in (place.folder / "jobs").glob("*.json")]
            ledger = place.agent._ledger
            if place is rightful and ledger.holds(VM, place.name):
                left.append(f"{place.name}: held or stood down")
            if self.phase().value == "home" and place is self.recovery:
                left += [f"copy {copy.copy_name}" for copy in place.copies.reports() if copy.purpose == "failover"]
                left += [f"stand-down {off.host}" for off in ledger.standdowns()]
                left += [f"hold {held}" for held in ledger._held]
        if self.phase().value == "home":
            left += [f"{self.office.name}: prepared home {vm_id}" for vm_id in self.office.homes._homes]
        return left

    def rightful(self):
        return self.recovery if self.phase().value in ("away", "settled") else self.office

    def must_be_sound(self, twice=()):
        """The promises, once everything is back and nothing is under way. twice: spans that physics excuses."""
        place = self.rightful()
        self.wait(lambda: self.running() == [place.name], 10)
        assert self.watch.twice() == list(twice), self.watch.twice()
        left = []

        def clean():
            left[:] = self.nothing_left()
            return not left

        try:
            self.wait(clean, 5)
        except AssertionError as late:
            raise AssertionError(left) from late
        self.write(place)
        self.remember(place)
        self.check_points()


__all__ = ["KIB64", "VM", "ChaosWorld", "ConsoleParts", "Died", "hurry"]
