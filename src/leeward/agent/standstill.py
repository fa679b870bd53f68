"""Which guests we have stopped for a moment: written down before, so that none stands still because we died.

A consistency group's guests stand still while their instants are fixed. Killed in between, we leave them standing;
the next start of the agent finds the note and lets them go on. Who stood still already, by the operator's will, is
never noted.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from leeward.agent.asking import may_stand
from leeward.agent.ledger import write_durably
from leeward.domain.errors import LeewardError, VmGone
from leeward.logs import log
from leeward.ports.hypervisor import Hypervisor


class Standstill:
    """One JSON file; safe from several threads. An unreadable one is taken for an empty one: it is from a moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._noted: set[tuple[str, str]] = set()
        self._active: set[tuple[str, str]] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            try:
                self._noted = {(str(host), str(vm_id)) for host, vm_id in json.loads(path.read_text())["vms"]}
            except (ValueError, KeyError, TypeError) as error:
                log.warning("the note of stopped guests cannot be read", file=str(path), error=str(error))

    def begin(self, host: str, vm_ids: Iterable[str]) -> None:
        """Before these guests are stopped. Raises Unavailable when it cannot be written: then do not stop them."""
        wanted = {(host, vm_id) for vm_id in vm_ids}
        with self._lock:
            self._active |= wanted
            self._noted |= wanted
            try:
                self._write()
            except LeewardError:
                self._active -= wanted
                self._noted -= wanted
                raise

    def end(self, host: str, vm_ids: Iterable[str]) -> None:
        """These guests are known to go on, or never to have been stopped."""
        with self._lock:
            done = {(host, vm_id) for vm_id in vm_ids}
            self._active -= done
            self._noted -= done
            self._try_write()

    def abandon(self, host: str, vm_id: str) -> None:
        """This guest could not be let go on: from now on it is among those left."""
        with self._lock:
            self._active.discard((host, vm_id))

    def left(self) -> list[tuple[str, str]]:
        """(host, VM id) whom we, or an earlier process, have left standing."""
        with self._lock:
            return sorted(self._noted - self._active)

    def standing(self, host: str) -> set[str]:
        """Ids of the VMs there that are stopped just now or were left standing."""
        with self._lock:
            return {vm_id for at, vm_id in self._noted if at == host}

    def forget_gone_on(self, host: str, hypervisor: Hypervisor) -> None:
        """Strike out those left there who stand still no more: somebody else has let them go on, or ended them."""
        for at, vm_id in self.left():
            if at == host and not may_stand(hypervisor, vm_id):
                self._strike(host, vm_id)

    def release_left(
        self, hypervisors: Mapping[str, Hypervisor], may: Callable[[str, str], bool] = lambda host, vm_id: True
    ) -> None:
        """Let them go on, where they may."""
        for host, vm_id in self.left():
            hypervisor = hypervisors.get(host)
            if hypervisor is not None and may(host, vm_id) and _released(hypervisor, vm_id):
                self._strike(host, vm_id)

    def _strike(self, host: str, vm_id: str) -> None:
        with self._lock:
            if (host, vm_id) not in self._active:  # nor stopped anew meanwhile
                self._noted.discard((host, vm_id))
                self._try_write()

    def _try_write(self) -> None:
        """A name too many does no harm: the guest goes on already."""
        try:
            self._write()
        except LeewardError as error:
            log.warning("the note of stopped guests cannot be written", error=str(error))

    def _write(self) -> None:
        write_durably(self._path, {"vms": sorted(self._noted)})


def _released(hypervisor: Hypervisor, vm_id: str) -> bool:
    try:
        if hypervisor.resume(vm_id):
            log.warning("a guest that had been stopped for a common instant goes on", vm_id=vm_id)
    except VmGone:
        return True
    except LeewardError as error:
        log.warning("a guest cannot be let go on", vm_id=vm_id, error=str(error))
        return False
    return True
