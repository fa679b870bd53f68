"""A whole Leeward on hypervisors in memory: two sites, agents, a vault, a console; every part can die and come back.

Hypervisors, the agents' state folders, the console's database and the vault outlive what runs on them, as disks do.
"""

import random
import socket
import threading
import time
from contextlib import suppress

from tests.vault.conftest import CHEAP

from leeward.agent.agent import Agent, Source
from leeward.agent.config import HostConfig
from leeward.agent.copy_tasks import CopyTasks
from leeward.agent.follower import Follower
from leeward.agent.groups import Groups
from leeward.agent.jobs import JobRunner
from leeward.agent.lastcycle import LastCycle
from leeward.agent.ledger import Ledger
from leeward.agent.link import LocalAgent
from leeward.agent.probing import ProbeTasks
from leeward.agent.standstill import Standstill
from leeward.agent.tasks import SourceTasks
from leeward.agent.worker import Services
from leeward.console.desk import Desk
from leeward.console.failovers import Failovers
from leeward.console.fleet import Fleet
from leeward.console.learning import Learner
from leeward.console.service import Service
from leeward.console.views import FailbackRequest, ProtectRequest
from leeward.domain.errors import StoreUnavailable
from leeward.domain.lifecycle import Phase
from leeward.domain.vm import Power
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.orchestrator.conductor import Conductor
from leeward.recovery.memory import MemoryCopies
from leeward.recovery.memory_homes import MemoryHomes
from leeward.recovery.memory_replicas import MemoryReplicas
from leeward.replication.pool import CopyPool
from leeward.replication.spool import SpoolingStore
from leeward.state.database import Database
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore
from leeward.wire.messages import AgentReport

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
KIB64 = 65536


class Died(BaseException):
    """The process ends here. No `except Exception` of ours may take note of it."""


class CutStore:
    """The vault's store as one site sees it; the line can be cut."""

    def __init__(self, store):
        self.store = store
        self.cut = False

    def __getattr__(self, name):
        if self.cut and name != "url":
            raise StoreUnavailable("the line to the vault is cut")
        return getattr(self.store, name)


class LocalReach:
    """Guests in memory have no network: what they would serve is served by the test, on this machine."""

    def __init__(self, hypervisor):
        self.hypervisor = hypervisor
        self.silent = set()

    def agent_answers(self, vm_id):
        return vm_id not in self.silent and self.hypervisor.vm(vm_id).power is Power.RUNNING

    def addresses(self, vm_id):
        return ["127.0.0.1/8"]

    def connect(self, vm_id, address, port, timeout_s, *, isolated):
        return socket.create_connection((address.split("/")[0], port), timeout_s)


class Place:
    """A site: its hypervisor, its agent's state folder, its line to the vault. The agent can be killed."""

    def __init__(self, world, name, site, folder):
        self.world, self.name, self.site, self.folder = world, name, site, folder
        self.hypervisor = self.make_hypervisor()
        self.line = CutStore(world.store)
        self.replicas = MemoryReplicas(self.open_vault)
        self.copies = MemoryCopies(self.hypervisor, self.open_vault, self.replicas)
        self.homes = MemoryHomes(self.hypervisor, self.open_vault)
        self.reach = LocalReach(self.hypervisor)
        self.local = None
        self.agent = self.jobs = self.follower = None

    def make_hypervisor(self):
        return MemoryHypervisor(self.name)

    def open_vault(self):
        return Vault.open(self.line, keys=self.world.keys)

    def spooled(self, vm_id):
        store = SpoolingStore(self.line, MemoryStore(), 1 << 20)
        return Vault.open(store, keys=self.world.keys), store

    def start_agent(self):
        ledger = Ledger(self.folder / "agent.json")
        pool = CopyPool.make(2)
        self.agent = Agent(
            f"agent-{self.name}",
            {self.name: Source(HostConfig(self.name, self.site, "memory"), self.hypervisor)},
            self.spooled,
            ledger,
            Services(f"agent-{self.name}", pool),
            self.open_vault,
            Groups({self.name: self.hypervisor}, Standstill(self.folder / "standstill.json")),
        )
        last = LastCycle(lambda host: self.hypervisor, self.spooled, ledger, pool, self.agent.name)
        self.follower = Follower(lambda: ledger.desired.replicas, {self.name: lambda: self.replicas})
        replica = lambda host, vm_id: self.copies.replica(vm_id)  # noqa: E731
        tasks = SourceTasks(self.agent, ledger, self.open_vault, last, replica).tasks()
        copies, homes = {self.name: self.copies}, {self.name: self.homes}
        tasks |= CopyTasks(self.agent, ledger, copies, homes, self.open_vault, self.follower.sparing).tasks()
        tasks |= ProbeTasks(copies, {self.name: self.reach}).tasks()
        if self.world.wrap:
            tasks = {kind: self.world.wrap(self, kind, task) for kind, task in tasks.items()}
        self.jobs = JobRunner(self.folder / "jobs", tasks)
        self.local = LocalAgent(self.agent, self.jobs, copies, self.follower.reports)
        self.agent.start()
        self.jobs.start()
        self.follower.start()

    def stop_agent(self):
        if self.agent:
            self.follower.stop(2)
            self.jobs.stop(2)
            self.agent.stop()
            self.agent = self.jobs = self.local = self.follower = None


class FarLink:
    """An agent behind a line that can be cut: nothing new is heard, jobs wait."""

    def __init__(self, place):
        self.place = place
        self.cut = False
        self.known = AgentReport(agent=place.name, generation=0, time="", protections=())
        self.known_hosts = []
        self.waiting, self.wish, self.known_jobs, self.gone = [], None, {}, []

    name = property(lambda self: self.place.name)

    @property
    def present(self):
        return not self.cut and self.place.local is not None

    def sync(self):
        local = self.place.local
        if not self.present or local is None:
            return
        if self.wish is not None:
            local.apply(self.wish)
        while self.waiting:
            local.submit(self.waiting.pop(0))
        while self.gone:
            local.release(self.gone.pop(0))
        self.known, self.known_hosts = local.report(), local.hosts()
        self.known_jobs |= {report.id: report for report in local.jobs()}

    def apply(self, desired):
        self.wish = desired
        self.sync()

    age_s = 0.0

    def report(self):
        self.sync()
        return self.known

    def hosts(self):
        self.sync()
        return self.known_hosts

    def submit(self, job):
        self.waiting.append(job)
        self.sync()

    def job(self, job_id):
        self.sync()
        return self.known_jobs.get(job_id)

    def release(self, job_id):
        self.waiting = [job for job in self.waiting if job.id != job_id]
        self.gone.append(job_id)
        self.sync()


class ThreadEngine:
    """Carries runs on in plain threads: for what is not about durable execution itself."""

    def __init__(self):
        self.conductor = None
        self.threads = {}

    def walk(self, run_id):
        def work():
            with suppress(Died):  # as a console ends that is killed: nobody is left to tell of it
                while self.conductor.advance(run_id):
                    pass

        self.threads[run_id] = threading.Thread(target=work, daemon=True)
        self.threads[run_id].start()

    def walking(self):
        return {run_id for run_id, thread in self.threads.items() if thread.is_alive()}


class Opener:
    def __init__(self, world):
        self.world = world

    def open(self):
        return self.world.open_vault_of_console()


class ConsoleParts:
    """One console of the world."""

    def __init__(self, world, links, database):
        self.links = links
        self.dead = False
        self.database = Database(f"sqlite:///{world.folder / database}")
        self.fleet = Fleet(lambda: self.links)
        self.database.runs = world.make_runs(self.database, self)
        self.desk = Desk(self.database, self.fleet, Opener(world))
        self.engine = self.make_engine(Conductor(self.database.runs, self.desk, lambda: self.dead))
        self.failovers = Failovers(self.database, self.fleet, self.desk, self.engine, lambda: "recovery")
        self.service = Service(self.database, self.fleet, Opener(world), self.desk, self.failovers)
        self.learner = Learner(self.database, self.desk, Opener(world))
        self.start()

    def make_engine(self, conductor):
        engine = ThreadEngine()
        engine.conductor = conductor
        return engine

    def start(self):
        self.database.count()
        self.desk.spread()
        self.failovers.revive()

    def stop(self):
        self.dead = True
        for thread in self.engine.threads.values():
            thread.join(20)
        self.database.close()


class World:
    place_type = Place

    def __init__(self, folder, wrap=None):
        self.folder, self.wrap = folder, wrap
        self.store = MemoryStore()
        self.vault, self.recovery_key = Vault.create(self.store, "x", cost=CHEAP)
        self.keys = self.vault.keys
        self.office = self.place_type(self, "office", "source", folder / "office")
        self.recovery = self.place_type(self, "recovery", "recovery", folder / "recovery")
        self.dice = random.Random(2)
        self.populate()
        self.office.start_agent()
        self.recovery.start_agent()
        self.start_console()

    def start_console(self):
        self._use(ConsoleParts(self, self.make_links([self.office, self.recovery], "leeward.db"), "leeward.db"))

    def start_portal(self):
        """A console at the recovery site that knows nothing but the vault."""
        self._use(ConsoleParts(self, self.make_links([self.recovery], "portal.db"), "portal.db"))
        return self.learner.adopt()

    def make_links(self, places, database):
        return [FarLink(place) for place in places]

    def make_runs(self, database, parts):
        return database.runs

    def open_vault_of_console(self):
        return self.vault

    def _use(self, parts):
        self.parts = parts
        for name in ("links", "database", "fleet", "desk", "engine", "failovers", "service", "learner"):
            setattr(self, name, getattr(parts, name))

    def stop_console(self):
        self.parts.stop()

    def close(self):
        self.stop_console()
        self.office.stop_agent()
        self.recovery.stop_agent()

    def populate(self):
        data = random.Random(1).randbytes(8 * KIB64)
        self.office.hypervisor.add(VM, "web", {"vda": data, "vdb": bytes(4 * KIB64)})

    # --- what happens -----------------------------------------------------------------------------

    def vm(self, place):
        return place.hypervisor._vms[VM]

    def write(self, place):
        """The guest writes and gets it acknowledged."""
        block = self.dice.randrange(8)
        self.vm(place).write("vda", block * KIB64, self.dice.randbytes(KIB64))
        self.vm(place).write("vdb", (block % 4) * KIB64, self.dice.randbytes(512))

    def disks(self, place):
        return {name: bytes(data) for name, data in self.vm(place).disks.items()}

    def newest(self):
        with self.vault.log(VM).open_point("latest") as image:
            return {name: image.disks[name].read(0, disk.size) for name, disk in image.disks.items()}

    def comes_home(self):
        """A planned failback, not committed yet: at home the VM is what it was away, and runs there alone."""
        last = self.disks(self.recovery)
        self.service.failback("web", FailbackRequest())
        self.until(Phase.BACK)
        assert self.running() == ["office"]
        assert self.disks(self.office) == last

    def running(self):
        """Where the VM runs now, seen by a client: a recovered one counts once it is plugged in."""
        places = (self.office, self.recovery)
        return [
            place.name
            for place in places
            if VM in place.hypervisor._vms
            and self.vm(place).facts.power is not Power.OFF
            and (place is self.office or VM in place.copies.plugged)
        ]

    def protect(self):
        self.service.protect("web", ProtectRequest(rpo_s=1, app_interval_s=0))
        self.wait(lambda: self.service.status("web")[0].failover_possible)

    def wait(self, condition, seconds=20.0):
        ends = time.monotonic() + seconds
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > ends:
                raise AssertionError(self.told())
            time.sleep(0.02)

    def told(self):
        """All that matters, for a failure's message."""
        lines = [f"phase {self.phase()}, running {self.running()}"]
        lines += [f"{v.host}: {v.state} {v.reason}" for v in self.service.status()]
        for run in self.failovers.runs(VM):
            lines.append(f"{run.kind} {run.id} {run.state} attempt {run.attempt} {run.failure}")
            lines += [f"  {r.name}: {r.state} {r.detail} {r.result}"[:200] for r in (*run.steps, *run.undo)]
        return "\n".join(lines)

    def phase(self):
        return self.failovers.life(VM, "web").phase

    def until(self, phase, seconds=20.0):
        self.wait(lambda: self.phase() is phase, seconds)

    def until_current(self, place):
        """Everything that the guest has written is in the vault."""
        self.wait(lambda: self.newest() == self.disks(place))
