"""The guard: keeps VMs off that must not run on this agent's hosts, because they run elsewhere.

It never decides by itself that a VM has moved: that was written down (`Ledger.stand_down`) by an order of the
console, or on finding this host's epoch closed in the vault.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from leeward.agent.ledger import Ledger, StandDown
from leeward.domain.errors import LeewardError, VmGone
from leeward.domain.vm import Power
from leeward.logs import log
from leeward.ports.hypervisor import Hypervisor
from leeward.wire.messages import StandDownReport

_LOOK_S = 1.0


class Guard:
    """hypervisors: by host name. on_look: called before each look (the agent ends workers of VMs that stood down)."""

    def __init__(
        self, ledger: Ledger, hypervisors: Mapping[str, Hypervisor], on_look: Callable[[], None] = lambda: None
    ) -> None:
        self._ledger = ledger
        self._hypervisors = hypervisors
        self._on_look = on_look
        self._notes: dict[tuple[str, str], str] = {}
        self._running: set[tuple[str, str]] = set()
        self._seen_off: set[tuple[str, str]] = set()
        self._locks: dict[tuple[str, str], threading.RLock] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._on_look()
                self.look()
            except Exception:  # a bug here must not leave a second primary running unseen for ever
                log.exception("the guard stumbled")
            self._wake.wait(_LOOK_S)
            self._wake.clear()

    def look(self) -> None:
        for standdown in self._ledger.standdowns():
            self.keep_off(standdown)

    @contextmanager
    def sparing(self, vm_id: str, host: str) -> Iterator[None]:
        """Nothing is done to this VM meanwhile: a stand-down that is just being taken back must not meet the VM that
        is started next."""
        with self._lock:
            lock = self._locks.setdefault((host, vm_id), threading.RLock())
        with lock:
            yield

    def keep_off(self, standdown: StandDown) -> bool:
        """Make sure that the VM is off and stays off; True when it is. Trouble becomes a note."""
        with self.sparing(standdown.vm_id, standdown.host):
            if self._ledger.standdown(standdown.vm_id, standdown.host) is None:
                return True  # taken back since the look began
            return self._keep_off(standdown)

    def _keep_off(self, standdown: StandDown) -> bool:
        key = (standdown.host, standdown.vm_id)
        hypervisor = self._hypervisors.get(standdown.host)
        if hypervisor is None:
            self._notes[key] = "the host is not among this agent's hosts"
            return False
        try:
            if hypervisor.autostart(standdown.vm_id):
                self._ledger.stand_down(replace(standdown, autostart=True))
                hypervisor.set_autostart(standdown.vm_id, False)
            if hypervisor.vm(standdown.vm_id).power is not Power.OFF:
                self._running.add(key)
                log.warning("stopping a VM that runs elsewhere", vm=standdown.vm_name, reason=standdown.reason)
                hypervisor.force_off(standdown.vm_id)
                how = "started here" if key in self._seen_off else "still running here"
                self._notes[key] = f"it was {how} and has been stopped; what it wrote is kept on its disks"
        except VmGone:
            self._notes[key] = "it is no longer defined on the host"
        except LeewardError as error:
            self._notes[key] = str(error)
            return False
        self._running.discard(key)
        self._seen_off.add(key)
        return True

    def reports(self) -> tuple[StandDownReport, ...]:
        found = []
        for standdown in self._ledger.standdowns():
            key = (standdown.host, standdown.vm_id)
            found.append(
                StandDownReport(
                    vm_id=standdown.vm_id,
                    vm_name=standdown.vm_name,
                    host=standdown.host,
                    reason=standdown.reason,
                    running=key in self._running,
                    note=self._notes.get(key, ""),
                )
            )
        return tuple(found)
