"""One replication cycle against the bare libvirt calls that it cannot do without, in turn, on the same VM."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import libvirt

from leeward.hypervisors.libvirt.domain_xml import backup_xml, checkpoint_xml
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.lab.bench.stage import Stage
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore


@dataclass(frozen=True, slots=True)
class CycleFigures:
    """Medians in ms: the bare calls, and a whole cycle of ours; dirty: what was dirty each time."""

    dirty: str
    bare_ms: float
    ours_ms: float


def bare(domain: libvirt.virDomain, targets: list[str], folder: Path, base: str | None, new: str) -> float:
    """Begin, end and drop the old checkpoint, reading nothing. Returns ms."""
    folder.chmod(0o777)  # QEMU, which does not run as root, puts its socket there
    socket = folder / "bare.sock"
    socket.unlink(missing_ok=True)
    began = time.perf_counter()
    backup = backup_xml(base, targets, str(socket), str(folder / "bare"))
    domain.backupBegin(backup, checkpoint_xml(new, targets), 0)
    domain.abortJob()
    if base:
        domain.checkpointLookupByName(base).delete(0)
    return (time.perf_counter() - began) * 1000


def cycles(stage: Stage, rounds: int) -> list[CycleFigures]:
    """Idle (the VM is paused), then with 10 MB written by the guest before each cycle."""
    lab, guest = stage.lab, stage.guest
    lab.start_guest("office", "bench")
    lab.wait_http("office", guest.ip, timeout_s=120)
    folder = stage.fresh("cycle")
    vault, _ = Vault.create(LocalStore(stage.fresh("vault")), "bench")
    host = LibvirtHost("office", lab.libvirt("office"), folder)
    connection = libvirt.open(lab.libvirt("office"))
    domain = connection.lookupByUUIDString(guest.uuid)
    found = []
    with CopyPool.make() as pool:
        engine = Replicator(host, vault.log(guest.uuid), guest.uuid, pool, writer_name="bench")
        engine.cycle()
        for dirty in ("nothing", "10 MB"):
            ours, plain = [], []
            base = None
            for number in range(rounds):
                _prepare(stage, domain, dirty)
                ours.append(engine.cycle().seconds * 1000)
                _settle(domain)
                _prepare(stage, domain, dirty)
                new = f"bare-{dirty.split()[0]}-{number}"
                took = bare(domain, ["vda", "vdb"], folder, base, new)
                if base:
                    plain.append(took)
                base = new
                _settle(domain)
            if base:
                domain.checkpointLookupByName(base).delete(0)
            if not domain.isActive() or domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
                domain.resume()
            found.append(CycleFigures(dirty, statistics.median(plain), statistics.median(ours)))
    host.forget(guest.uuid)
    connection.close()
    return found


def _prepare(stage: Stage, domain: libvirt.virDomain, dirty: str) -> None:
    paused = domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
    if dirty == "nothing":
        if not paused:
            domain.suspend()
        return
    if paused:
        domain.resume()
    stage.lab.http("office", stage.guest.ip, "/burn?10", timeout_s=60)


def _settle(domain: libvirt.virDomain) -> None:
    while domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
        time.sleep(0.005)
