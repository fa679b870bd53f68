"""From power-on to the first HTTP answer: from a local disk, and from the vault at several distances."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.lab.bench.stage import Stage
from leeward.recovery.drill import TestFailover
from leeward.recovery.libvirt.host import LibvirtRecoveryHost
from leeward.replication.copy import copy_pool
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


class _Quick(TestFailover):
    """A drill that does not wait for the guest: the bench does, over HTTP."""

    def _watch_boot(self, record):  # type: ignore[no-untyped-def]
        return ""

    def _begin_hydration(self, record):  # type: ignore[no-untyped-def]
        return ""


def boots(stage: Stage, rounds: int) -> list[Boots]:
    """Local disk, vault, vault with 5 ms on each read without and with a record of the last boot; in turn."""
    lab, guest = stage.lab, stage.guest
    vault_dir = stage.fresh("vault")
    vault, _ = Vault.create(LocalStore(vault_dir), "bench")
    key = stage.work / "boot.key"
    key.write_bytes(vault.keys.to_bytes())
    host = LibvirtHost("office", lab.libvirt("office"), stage.fresh("s"))
    with copy_pool() as pool:
        Replicator(host, vault.log(guest.uuid), guest.uuid, pool, writer_name="bench").cycle()
    recovery = LibvirtRecoveryHost("recovery", lab.libvirt("recovery"), Path(lab.places.images("recovery")))
    found = {name: Boots(name) for name in ("local disk", "vault", "vault + 5 ms, no record", "vault + 5 ms")}
    for number in range(rounds):
        found["local disk"].seconds.append(_local(stage))
        for name, delay in (("vault + 5 ms, no record", 5.0), ("vault", 0.0), ("vault + 5 ms", 5.0)):
            if name == "vault + 5 ms, no record":
                _forget_boots(vault, guest.uuid)
            drill = _Quick(recovery, stage.work / "t", str(vault_dir), key, vault, delay_ms=delay)
            found[name].seconds.append(_from_vault(stage, drill, number))
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


def _from_vault(stage: Stage, drill: TestFailover, number: int) -> float:
    record = drill.start(stage.guest.uuid, f"boot{number}")
    began = record.step("start").started or 0.0
    with stage.lab.probe("recovery", record.bridge, "10.77.0.3/24") as probe:
        probe.wait(stage.guest.ip)
    took = time.time() - began
    drill._export(record).boot_is_over()
    time.sleep(0.5)  # the record of this boot is being stored
    drill.cleanup(stage.guest.uuid)
    return took
