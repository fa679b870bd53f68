"""From power-on to the first HTTP answer: from a local disk, and from the vault at several distances."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.lab.bench.stage import INTERVAL_MS, Stage
from leeward.recovery.copies import Copies
from leeward.recovery.libvirt.host import LibvirtRecoveryHost
from leeward.recovery.records import Purpose
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore


@dataclass(slots=True)
class Boots:
    """seconds of each boot, from power-on to the answer."""

    name: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def boots(stage: Stage, rounds: int) -> list[Boots]:
    """Local disk, vault, vault with 5 ms on each read without and with a record of the last boot; in turn.

    Then from the vault again, with a boot disk of 1 GiB and one of 100 GiB, both sparse.
    """
    vault_dir = stage.fresh("vault")
    vault, _ = Vault.create(LocalStore(vault_dir), "bench")
    key = stage.work / "boot.key"
    key.write_bytes(vault.keys.to_bytes())
    found = _distances(stage, rounds, vault, vault_dir, key)
    sized = {gib: _grown(stage, gib, vault) for gib in (1, 100)}
    rows = {gib: Boots(f"vault, disk of {gib} GiB") for gib in sized}
    for number in range(rounds):
        for gib, where in sized.items():
            copies = Copies(_recovery(where), stage.work / "t", str(vault_dir), key, vault)
            rows[gib].seconds.append(_from_vault(where, copies, number))
    return [*found, *rows.values()]


def _recovery(stage: Stage) -> LibvirtRecoveryHost:
    lab = stage.lab
    return LibvirtRecoveryHost("recovery", lab.libvirt("recovery"), Path(lab.places.images("recovery")))


def _replicate(stage: Stage, vault: Vault) -> LibvirtHost:
    host = LibvirtHost("office", stage.lab.libvirt("office"), stage.fresh("s"))
    vm_id = stage.guest.uuid
    with CopyPool.make() as pool:
        replicator = Replicator(host, vault.log(vm_id), vm_id, pool, writer_name="bench")
        replicator.cycle()
        replicator.maintain()
    return host


def _grown(stage: Stage, gib: int, vault: Vault) -> Stage:
    """A guest like the other one whose boot disk has this size, replicated."""
    guest = stage.lab.define_guest(
        "office", f"bench{gib}", disks=(64, 32), ip=f"10.77.0.{90 + gib}", interval_ms=INTERVAL_MS, start=False
    )
    subprocess.run(["qemu-img", "resize", "-q", str(guest.disk()), f"{gib}G"], check=True)
    where = replace(stage, guest=guest)
    _replicate(where, vault)
    return where


def _distances(stage: Stage, rounds: int, vault: Vault, vault_dir: Path, key: Path) -> list[Boots]:
    guest = stage.guest
    host = _replicate(stage, vault)
    recovery = _recovery(stage)
    found = {name: Boots(name) for name in ("local disk", "vault", "vault + 5 ms, no record", "vault + 5 ms")}
    for number in range(rounds):
        found["local disk"].seconds.append(_local(stage))
        for name, delay in (("vault + 5 ms, no record", 5.0), ("vault", 0.0), ("vault + 5 ms", 5.0)):
            if name == "vault + 5 ms, no record":
                _forget_boots(vault, guest.uuid)
            copies = Copies(recovery, stage.work / "t", str(vault_dir), key, vault, delay_ms=delay)
            found[name].seconds.append(_from_vault(stage, copies, number))
    host.forget(guest.uuid)
    return list(found.values())


def _forget_boots(vault: Vault, vm_id: str) -> None:
    for info in list(vault.store.scan(f"vm/{vm_id}/doc/boot.")):
        vault.store.delete(info.key)


def _local(stage: Stage) -> float:
    lab, guest = stage.lab, stage.guest
    began = time.monotonic()
    lab.start_guest("office", "bench")
    lab.wait_http("office", guest.ip, timeout_s=120)
    took = time.monotonic() - began
    LibvirtHost("office", lab.libvirt("office"), stage.work / "s").force_off(guest.uuid)
    return took


def _from_vault(stage: Stage, copies: Copies, number: int) -> float:
    vm_id = stage.guest.uuid
    copies.build(vm_id, f"boot{number}", "latest", Purpose.TEST)
    record = copies.start(vm_id, Purpose.TEST)
    began = record.step("start").started or 0.0
    with stage.lab.probe("recovery", record.network, "10.77.0.3/24") as probe:
        probe.wait(stage.guest.ip)
    took = time.time() - began
    copies.export(record).boot_is_over()
    time.sleep(0.5)  # the record of this boot is being stored
    copies.discard(vm_id, Purpose.TEST)
    return took
