"""A console's agents and a real agent on a hypervisor in memory, with real TLS over loopback between them."""

import random
import socket
import threading
import time
from contextlib import contextmanager, suppress

from tests.loopback import free_port
from tests.vault.conftest import CHEAP

from leeward.agent.agent import Agent, Source
from leeward.agent.config import HostConfig
from leeward.agent.enrolment import enrol
from leeward.agent.jobs import JobRunner
from leeward.agent.ledger import Ledger
from leeward.agent.link import LocalAgent
from leeward.agent.link_status import read_status
from leeward.agent.remote import AgentClient
from leeward.agent.worker import Services
from leeward.console.agent_views import TokenRequest
from leeward.console.agents import Agents
from leeward.console.agents_server import AgentsServer
from leeward.console.authority import Authority
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.replication.pool import CopyPool
from leeward.replication.spool import SpoolingStore
from leeward.state.database import Database
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore
from leeward.wire.jobs import Job, JobKind
from leeward.wire.messages import DesiredState, PolicyMessage, ProtectionMessage
from leeward.wire.tokens import read_token

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
MIB = 1 << 20


def until(condition, timeout_s=15.0, every_s=0.01):
    """What the condition returned when it was true; fails after the time."""
    ends = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < ends, "it did not come to pass in time"
        time.sleep(every_s)


class Stand:
    """The console: everything but its orchestrator. Can be closed and opened again on the same folder and port."""

    def __init__(self, folder, port=None, **how):
        self.folder, self.how = folder, how
        self.port = port or free_port()
        self.spread = []
        self.open()

    @property
    def address(self):
        return f"https://127.0.0.1:{self.port}"

    def open(self):
        self.folder.mkdir(exist_ok=True)
        self.database = Database(f"sqlite:///{self.folder}/console.db")
        self.authority = Authority.open(self.folder / "authority")
        on_hosts = lambda: self.spread.append(time.monotonic())  # noqa: E731
        self.agents = Agents(self.database, self.authority, self.address, on_hosts=on_hosts, **self.how)
        self.listen()

    def listen(self):
        self.server = AgentsServer(self.agents, self.authority, f"127.0.0.1:{self.port}", ["127.0.0.1"])
        self.agents.start()
        self.server.start()

    def close(self):
        self.server.stop()
        self.agents.stop()
        self.database.close()

    def token(self, **request):
        return read_token(self.agents.new_token(TokenRequest(**request)).token)

    @property
    def link(self):
        [link] = self.agents.links()
        return link


class Host:
    """A host with one VM, its agent, and the agent's line. `done`: ids of jobs in the order they were done."""

    def __init__(self, folder, name="office"):
        self.folder, self.name = folder, name
        folder.mkdir(exist_ok=True)
        self.hypervisor = MemoryHypervisor(name)
        self.vm = self.hypervisor.add(VM, "web", {"vda": random.Random(1).randbytes(MIB)})
        store = LocalStore(folder / "vault")
        self.vault = Vault.create(store, "x", cost=CHEAP)[0]
        self.done = []
        self.gate = threading.Event()
        self.gate.set()
        self.client = self.agent = None

    def enrol(self, token, name=None):
        return enrol(self.folder, token, name or self.name)

    def start(self, **how):
        def open_vault(vm_id):
            store = SpoolingStore(LocalStore(self.folder / "vault"), LocalStore(self.folder / "spool"), MIB)
            return Vault.open(store, keys=self.vault.keys), store

        hosts = {self.name: Source(HostConfig(self.name, "source", "memory"), self.hypervisor)}
        services = Services(self.name, CopyPool.make(2))
        ledger = Ledger(self.folder / "agent.json")
        self.agent = Agent(self.name, hosts, open_vault, ledger, services, lambda: open_vault(VM)[0])
        self.jobs = JobRunner(self.folder / "jobs", {JobKind.START: self._do})
        self.local = LocalAgent(self.agent, self.jobs, {})
        self.client = AgentClient(self.folder, self.local, **how)
        self.agent.start()
        self.jobs.start()
        self.client.start()
        return self

    def _do(self, context):
        context.tell("waiting at the gate")
        while not self.gate.wait(0.02):
            context.check()
        self.done.append(context.job.id)
        return {"order": len(self.done)}

    def stop(self):
        if self.client:
            self.client.stop()
            self.jobs.stop(5)
            self.agent.stop()
            self.client = None

    def status(self):
        return read_status(self.folder) or {"state": "stopped", "reason": ""}

    def refused(self, timeout_s=10.0):
        """The reason, once the console has refused us."""
        return until(lambda: self.status()["state"] == "refused" and self.status()["reason"], timeout_s)

    def connected(self):
        until(lambda: self.status()["state"] == "connected")

    def points(self):
        return len(self.vault.log(VM).points())


def wish(generation, *, paused=False, host="office", **policy):
    """Desired state: the one VM protected, a point a second."""
    policy = PolicyMessage(**{"rpo_s": 1, "app_interval_s": 0, **policy})
    protection = ProtectionMessage(vm_id=VM, vm_name="web", host=host, policy=policy, paused=paused)
    return DesiredState(generation=generation, protections=(protection,))


def job(job_id):
    return Job(id=job_id, kind=JobKind.START, vm_id=VM, host="office")


@contextmanager
def faulty_line(port, rng, mean_bytes):
    """A port that leads to another one, over connections that break at random, in the middle of whatever is said."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    over = threading.Event()
    breaks = []

    def carry(source, target, budget):
        try:
            while data := source.recv(4096):
                budget[0] -= len(data)
                if budget[0] < 0:
                    target.sendall(data[: rng.randrange(len(data) + 1)])
                    breaks.append(len(data))
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept():
        while not over.is_set():
            try:
                near, _ = listener.accept()
            except TimeoutError:
                continue
            try:
                far = socket.create_connection(("127.0.0.1", port), timeout=5)
            except OSError:
                near.close()
                continue
            near.settimeout(None)
            far.settimeout(None)
            budget = [rng.expovariate(1 / mean_bytes) if not over.is_set() else 1 << 40]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=carry, args=(*pair, budget), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], breaks
    finally:
        over.set()
        thread.join(5)
        listener.close()
