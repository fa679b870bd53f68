"""The only place of the agent where adapters are chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from leeward.agent.agent import Agent, Source
from leeward.agent.asking import surely_gone
from leeward.agent.config import AgentConfig, HostConfig
from leeward.agent.copy_tasks import Copies, CopyTasks, Homes
from leeward.agent.fence import fence_of
from leeward.agent.follower import Follower
from leeward.agent.groups import Groups
from leeward.agent.jobs import JobRunner
from leeward.agent.keys import load_keys
from leeward.agent.lastcycle import LastCycle
from leeward.agent.leaving import Traces, refusal
from leeward.agent.ledger import Ledger, StandDown
from leeward.agent.link import LocalAgent
from leeward.agent.probing import ProbeTasks
from leeward.agent.restoring import HostCopies, HostHomes
from leeward.agent.set_aside import move_aside, spool_of
from leeward.agent.standstill import Standstill
from leeward.agent.tasks import SourceTasks
from leeward.agent.worker import Services
from leeward.domain.errors import LeewardError, NotFound, Refused, StoreUnavailable
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.hypervisors.passage import make_passable
from leeward.logs import log
from leeward.network.apart import apart
from leeward.network.reach import LibvirtReach
from leeward.ports.hypervisor import Hypervisor
from leeward.recovery.home_records import HomeRecords
from leeward.recovery.records import CopyRecord, CopyRecords, Purpose
from leeward.recovery.replica import Replicas, records_in
from leeward.replication.pool import CopyPool
from leeward.replication.spool import SpoolingStore
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore
from leeward.wire.messages import ReplicaMessage, ReplicaReport

_RETRY_S = 5.0
_SUPERVISE_S = 1.0
_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """An agent with its jobs and copies. link: its face towards the console. add: another host, while it runs;
    remove: one that is none any more, after `last` was called (see `Agent.remove`); raises Refused while anything of
    it needs the agent."""

    agent: Agent
    jobs: JobRunner
    copies: Mapping[str, Copies]
    follower: Follower
    link: LocalAgent
    over: threading.Event
    add: Callable[[HostConfig], None]
    remove: Callable[[str, Callable[[], None]], None]

    def hosts(self) -> tuple[HostConfig, ...]:
        """As they are configured."""
        return self.agent.configured()

    def start(self) -> None:
        self.agent.start()
        self.jobs.start()
        self.follower.start()
        threading.Thread(target=self._supervise, name="supervise", daemon=True).start()

    def stop(self) -> None:
        self.over.set()
        self.follower.stop(_STOP_S)
        self.jobs.stop(_STOP_S)
        self.agent.stop()

    def _supervise(self) -> None:
        """Look after the VMs that were made out of recovery points, once a second."""
        while not self.over.wait(_SUPERVISE_S):
            for host, copies in list(self.copies.items()):
                try:
                    copies.supervise()
                except LeewardError as error:
                    log.warning("recovered VMs cannot be looked after", host=host, error=str(error))
                except Exception:  # a bug here must not end the nursing of all copies
                    log.exception("supervision failed", host=host)


def build_agent(config: AgentConfig) -> RunningAgent:
    """An agent that is ready to start. Raises BadInput for an unusable state folder, Refused for a host that was
    renamed while VMs are protected there."""
    fence = fence_of(config.state_dir)
    renamed = fence.know({host.name: host.uri for host in config.hosts})
    ledger = Ledger(config.state_dir / "agent.json", lambda held: fence.keep(map(_fenced, held)))
    _must_protect_nothing(ledger, renamed)
    _take_over(ledger, renamed)
    pool = CopyPool.make(config.workers or 0)
    scratch = config.state_dir / "scratch"

    def source(host: HostConfig) -> Source:
        return Source(host, LibvirtHost(host.name, host.uri, scratch / host.name))

    hosts = {host.name: source(host) for host in config.hosts}
    spooled = partial(_open_vault, config)
    plain = partial(_open_plain_vault, config)
    standstill = Standstill(config.state_dir / "standstill.json")
    groups = Groups({name: source.hypervisor for name, source in hosts.items()}, standstill)
    agent = Agent(config.name, hosts, spooled, ledger, Services(config.name, pool), plain, groups)

    def hypervisor(host: str) -> Hypervisor:
        return agent.source(host).hypervisor

    last_cycle = LastCycle(hypervisor, spooled, ledger, pool, config.name)

    def rpo_of(vm_id: str) -> float | None:
        return next((wish.policy.rpo_s for wish in ledger.desired.protections if wish.vm_id == vm_id), None)

    copies: dict[str, Copies] = {}
    homes: dict[str, Homes] = {}
    replicas: dict[str, Callable[[], Replicas]] = {}
    reaches: dict[str, LibvirtReach] = {}

    def equip(host: HostConfig) -> None:
        home = _folder(config.state_dir / "home" / host.name)  # first: where it fails, nothing is half there
        if host.storage is not None:
            folder = _passable(config.state_dir / "copy" / host.name)
            may_run = partial(_may_run, ledger, host.name)
            kept = replicas[host.name] = cache(partial(_replicas, config, host.name, host.storage))
            late = partial(_late_vault, config)
            copies[host.name] = HostCopies(host, host.storage, folder, config, late, kept, may_run, rpo_of)
        storage = host.storage or config.state_dir / "images" / host.name
        homes[host.name] = HostHomes(host, storage, home, plain)
        reaches[host.name] = LibvirtReach(host.name, host.uri)

    def add(host: HostConfig) -> None:
        made = source(host)
        equip(host)
        others = {other.name: other.uri for other in agent.configured()}
        _take_over(ledger, fence.know({**others, host.name: host.uri}))
        agent.add(made)

    def remove(name: str, last: Callable[[], None]) -> None:
        def checked() -> None:
            why = refusal(
                name, _traces(config.state_dir, name, ledger, copies, follower, jobs, standstill, absent, over)
            )
            if why is not None:
                raise why
            last()

        leaving = agent.source(name)
        driver = leaving.hypervisor
        # Not under the agent's lock: libvirt may hang.
        standstill.forget_gone_on(name, driver)
        absent = {off.vm_id for off in ledger.standdowns() if off.host == name and surely_gone(driver, off.vm_id)}
        records = CopyRecords(config.state_dir / "copy" / name).all()
        over = {record.vm_id for record in records if _is_over(record) and surely_gone(driver, record.copy_id)}
        gone: list[object] = [leaving]
        del leaving, driver
        agent.remove(name, checked)
        # Whoever goes through these now finds nothing to do for it, or goes through a copy of theirs.
        gone += [kept.pop(name, None) for kept in (copies, homes, replicas, reaches)]
        follower.forget(name)
        # Connections are closed when nobody has them any more; a libvirt that hangs has no limit for that either.
        apart(gone.clear, "let-go")

    for host in config.hosts:
        equip(host)
    follower = Follower(partial(_wished_replicas, ledger), replicas)
    tasks = SourceTasks(agent, ledger, plain, last_cycle, partial(_replica, copies)).tasks()
    tasks |= CopyTasks(agent, ledger, copies, homes, plain, follower.sparing).tasks()
    tasks |= ProbeTasks(copies, reaches).tasks()
    jobs = JobRunner(config.state_dir / "jobs", tasks)
    link = LocalAgent(agent, jobs, copies, follower.reports)
    return RunningAgent(agent, jobs, copies, follower, link, threading.Event(), add, remove)


def _traces(
    state: Path,
    host: str,
    ledger: Ledger,
    copies: Mapping[str, Copies],
    follower: Follower,
    jobs: JobRunner,
    standstill: Standstill,
    absent: Collection[str],
    over: Collection[str],
) -> Traces:
    """Of VMs that are not defined there any more, by id: absent: kept off there; over: come there for good."""
    wished = ledger.desired
    known = {off.vm_id: off.vm_name for off in ledger.standdowns()}
    known |= {wish.vm_id: wish.vm_name for wish in wished.replicas}
    known |= {wish.vm_id: wish.vm_name for wish in wished.protections}
    replicas = {wish.vm_id for wish in wished.replicas if wish.host == host} | follower.at_work(host)
    replicas |= {record.vm_id for record in records_in(state / "replica" / host)}

    reports = copies[host].reports() if host in copies else []

    def names(vm_ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(known.get(vm_id, vm_id) for vm_id in vm_ids)

    return Traces(
        replicated=tuple(wish.vm_name for wish in wished.protections if wish.host == host),
        replicas=names(replicas),
        held=names(ledger.held_at(host, absent)),
        copies=tuple(copy.vm_name for copy in reports if copy.purpose == Purpose.TEST or copy.vm_id not in over),
        homes=names(HomeRecords(state / "home" / host).vm_ids()),
        jobs=names(jobs.at_work(host)),
        standing=names(standstill.standing(host)),
    )


def _is_over(record: CopyRecord) -> bool:
    """The operator has committed, and nothing but the VM itself was left: no point is kept, none is served."""
    return record.purpose == Purpose.FAILOVER and record.settled and record.hydrated and not record.pin


def _wished_replicas(ledger: Ledger) -> Sequence[ReplicaMessage] | None:
    """An agent that has lost its memory removes nothing before it has heard what is wished."""
    return ledger.desired.replicas if ledger.desired.generation else None


def _replica(copies: Mapping[str, Copies], host: str, vm_id: str) -> ReplicaReport | None:
    return copies[host].replica(vm_id) if host in copies else None


def _replicas(config: AgentConfig, host: str, storage: Path) -> Replicas:
    return Replicas(_folder(config.state_dir / "replica" / host), storage, _late_vault(config))


def _fenced(standdown: StandDown) -> tuple[str, str, str]:
    return standdown.host, standdown.vm_id, standdown.reason


def _must_protect_nothing(ledger: Ledger, renamed: Mapping[str, str]) -> None:
    """The console knows a protected VM's host by its name. By another one it would tell this agent of no wish, the
    agent would forget its VMs and their epochs, and nobody would stop one that was failed over behind its back."""
    for old, new in renamed.items():
        vms = sorted(wish.vm_name for wish in ledger.desired.protections if wish.host == old)
        if vms:
            raise Refused(
                f"this host was called {old} so far, and VMs are protected there by that name: {', '.join(vms)}",
                subject=new,
                hint=f"Call it {old} in leeward.toml again. To rename it, end their protection first",
            )


def _take_over(ledger: Ledger, renamed: Mapping[str, str]) -> None:
    """Before anything is done at hosts that have other names now."""
    for old, new in renamed.items():
        log.info("a host has another name", host=new, before=old)
    try:
        ledger.take_over(renamed)
    except LeewardError as error:  # tried again at the next start; until then the old list keeps them off
        log.warning("who stands down at a renamed host was not noted", error=str(error))


def _may_run(ledger: Ledger, host: str, vm_id: str) -> bool:
    return ledger.standdown(vm_id, host) is None


def _open_plain_vault(config: AgentConfig) -> Vault:
    keys = load_keys(config.state_dir)
    store = config.place.following(_RETRY_S, keys.vault_id)
    try:
        return Vault.open(store, keys=keys)
    except NotFound as gone:
        raise StoreUnavailable(gone.message, subject=gone.subject, hint=gone.hint) from None


def _late_vault(config: AgentConfig) -> Vault:
    """For what must begin to work while the vault is away."""
    keys = load_keys(config.state_dir)
    return Vault.with_keys(config.place.following(_RETRY_S, keys.vault_id), keys)


def _open_vault(config: AgentConfig, vm_id: str) -> tuple[Vault, SpoolingStore]:
    # The spool takes over when the vault is away, so there is little point in trying for long.
    place, keys = config.place, load_keys(config.state_dir)
    place.current().open(create=False)  # a folder that is not there is told as such at once
    remote = place.following(_RETRY_S, keys.vault_id)
    folder = _folder(spool_of(config.state_dir, vm_id))
    store = SpoolingStore(remote, LocalStore(folder), config.spool_limit, partial(_set_aside, folder))
    return Vault.open(store, keys=keys), store


def _set_aside(spool: Path) -> None:
    """Whoever protects this VM anew begins with an empty spool. Kept, and told: nothing deletes it by itself."""
    aside = move_aside(spool)
    log.warning("points that had not reached the vault were set aside; nobody needs them but you", folder=str(aside))
    LocalStore(_folder(spool))  # with its mark: whoever has it open goes on in it


def _passable(path: Path) -> Path:
    """QEMU's user finds sockets of ours below it."""
    make_passable(path)
    return path


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path
