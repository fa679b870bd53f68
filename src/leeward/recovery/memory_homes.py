"""VMs that come home to a hypervisor in memory: the same promises as on a real host, what is refused included.

State is kept in the object, which stands for the host's disks: it outlives the agents that use it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from leeward.domain.errors import NotFound, Refused, Unavailable
from leeward.domain.vm import Power
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.recovery.leftovers import Leftover, judge, must_be_unwritten, must_hold, of_another
from leeward.vault.facade import Vault


@dataclass(slots=True)
class _Home:
    """made: what the new disks held when the VM was given them; switched, released, run: as on a real host."""

    name: str
    old: dict[str, bytearray]
    new: dict[str, bytearray]
    point: str = ""
    token: str = ""
    made: dict[str, bytes] = field(default_factory=dict)
    switched: bool = False
    released: bool = False
    run: str = ""


class MemoryHomes:
    """VMs that come home to one host."""

    def __init__(self, hypervisor: MemoryHypervisor, open_vault: Callable[[], Vault]) -> None:
        self._hypervisor = hypervisor
        self._open_vault = open_vault
        self._homes: dict[str, _Home] = {}
        self._lock = threading.RLock()

    def prepare(
        self,
        vm_id: str,
        vm_name: str,
        point_id: str,
        tell: Callable[[str], None],
        check: Callable[[], None],
        *,
        afresh: bool = False,
        run: str = "",
    ) -> dict[str, Any]:
        check()
        with self._lock:
            home = self._homes.get(vm_id)
            if home is not None and home.made:
                wanted, written = self._open_vault().log(vm_id).point(point_id).id, self._written(vm_id, home)
                if judge(vm_name, home.point, wanted, written=written, afresh=afresh) is Leftover.STALE:
                    self._take_back(vm_id, home)
            if vm_id not in self._homes:
                self._must_be_off(vm_id)
                old = self._hypervisor.disks(vm_id) if self._defined(vm_id) else {}
                self._homes[vm_id] = _Home(vm_name, {name: bytearray(data) for name, data in old.items()}, {})
            self._homes[vm_id].run = run
            return self._fetch(vm_id, point_id)

    def catch_up(
        self, vm_id: str, point_id: str, tell: Callable[[str], None], check: Callable[[], None]
    ) -> dict[str, Any]:
        with self._lock:
            return self._fetch(vm_id, point_id)

    def _fetch(self, vm_id: str, point_id: str) -> dict[str, Any]:
        home = self._home(vm_id)
        log = self._open_vault().log(vm_id)
        if home.made:
            must_hold(home.name, home.point, log.point(point_id).id)
            return {"point": home.point}
        self._must_be_off(vm_id)
        with log.open_point(point_id) as image:
            home.new = {name: bytearray(image.disks[name].read(0, disk.size)) for name, disk in image.disks.items()}
            home.point, home.token = image.point.id, image.tracking
        return {"point": home.point}

    def switch(self, vm_id: str, definition: str, point: str = "") -> dict[str, Any]:
        with self._lock:
            home = self._home(vm_id)
            must_hold(home.name, home.point, point)
            if not home.switched:
                self._must_be_off(vm_id)
                home.made = {name: bytes(data) for name, data in home.new.items()}
                if self._defined(vm_id):
                    self._hypervisor.set_disks(vm_id, home.new)
                else:
                    self._hypervisor.add(vm_id, home.name, home.made, Power.OFF)
                home.switched = True
            return {}

    def start(self, vm_id: str, point: str = "") -> dict[str, Any]:
        with self._lock:
            home = self._home(vm_id)
            must_hold(home.name, home.point, point)
            if not home.switched:
                raise Refused("it has not been given its new disks yet", subject=home.name)
            if not home.released and self._untracked(vm_id, home):
                home.released = True
            if not home.released:
                self._hypervisor.track(vm_id, home.token)
            self._hypervisor.start(vm_id)
            home.released = True
            return {}

    def _untracked(self, vm_id: str, home: _Home) -> str:
        try:
            return self._open_vault().log(vm_id).untracked(home.point, home.token)
        except Unavailable as error:
            return str(error)

    def watch(self, vm_id: str, timeout_s: float) -> dict[str, Any]:
        return {"agent": "answers"}

    def settle(self, vm_id: str) -> None:
        with self._lock:
            self._homes.pop(vm_id, None)

    def of_another(self, vm_id: str, runs: Collection[str]) -> bool:
        home = self._homes.get(vm_id)
        return home is not None and of_another(home.run, runs)

    def revert(self, vm_id: str, runs: Collection[str] = ()) -> None:
        with self._lock:
            home = self._homes.get(vm_id)
            if home is not None and not of_another(home.run, runs):
                must_be_unwritten(home.name, home.point, written=self._written(vm_id, home))
                self._take_back(vm_id, home)

    def _take_back(self, vm_id: str, home: _Home) -> None:
        self._must_be_off(vm_id)
        del self._homes[vm_id]
        if home.switched and home.old:
            self._hypervisor.set_disks(vm_id, home.old)
        elif home.switched:
            self._hypervisor.remove(vm_id)

    def _written(self, vm_id: str, home: _Home) -> bool:
        if not home.released:
            return False
        return self._hypervisor.vm(vm_id).power is not Power.OFF or self._hypervisor.disks(vm_id) != home.made

    def _must_be_off(self, vm_id: str) -> None:
        if self._defined(vm_id) and self._hypervisor.vm(vm_id).power is not Power.OFF:
            raise Refused("it runs here", subject=self._hypervisor.vm(vm_id).name)

    def _defined(self, vm_id: str) -> bool:
        return any(vm.id == vm_id for vm in self._hypervisor.vms())

    def _home(self, vm_id: str) -> _Home:
        if vm_id not in self._homes:
            raise NotFound("nothing has been prepared for it", subject=vm_id)
        return self._homes[vm_id]
