"""Which QEMU runs a VM."""

from __future__ import annotations

import json
import threading

import libvirt
import libvirt_qemu

from leeward.logs import log


class Emulators:
    """Versions as libvirt counts them: 7002000 for 7.2. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By VM: the number of its run, and the version.
        self._known: dict[str, tuple[int, int]] = {}

    def version(self, domain: libvirt.virDomain) -> int:
        """Of the process that runs the VM; while it is off, of the host's QEMU; 0 when that is not told.

        The host's may be newer than what runs: packages are upgraded under running VMs. libvirt does not tell a
        process's version, so QEMU is asked, once a run: libvirt notes in the VM's log that somebody did.
        """
        try:
            run = int(domain.ID()) if domain.isActive() else -1
            return self._running(domain, run) if run != -1 else int(domain.connect().getVersion())
        except libvirt.libvirtError as error:
            log.warning("QEMU does not tell its version", vm=domain.name(), error=str(error))
            return 0

    def _running(self, domain: libvirt.virDomain, run: int) -> int:
        vm_id = domain.UUIDString()
        with self._lock:
            known = self._known.get(vm_id)
        if known is not None and known[0] == run:
            return known[1]
        answer = libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "query-version"}', 0)
        told = json.loads(answer)["return"]["qemu"]
        version = int(told["major"]) * 1_000_000 + int(told["minor"]) * 1_000 + int(told["micro"])
        with self._lock:
            self._known[vm_id] = (run, version)
        return version
