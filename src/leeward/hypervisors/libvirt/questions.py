"""Questions that libvirt passes on to a VM's QEMU, which never answers when it hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import libvirt

from leeward.domain.errors import HostBusy
from leeward.hypervisors.libvirt.connection import Connection, call_within

T = TypeVar("T")

# An answer takes milliseconds. A VM that owes one is not waited for again, so this is lost once.
PATIENCE_S = 2.0


class Questions:
    """To the VMs of one host. Thread-safe.

    They are asked one after the other on a connection of their own (see `LibvirtHost._line` for why), which is left
    to the one that stays without an answer.
    """

    def __init__(self, name: str, uri: str, patience_s: float = PATIENCE_S) -> None:
        self._line = Connection(name, uri)
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._unanswered: set[str] = set()

    def ask(self, vm_id: str, question: Callable[[libvirt.virDomain], T]) -> T:
        """Raises HostBusy when there is no answer in time; at once for as long as the last question has none."""
        with self._lock:
            if vm_id in self._unanswered:
                raise HostBusy("its QEMU does not answer", subject=vm_id)
            self._unanswered.add(vm_id)
            line = self._line

            def run() -> T:
                try:
                    return question(line.domain(vm_id))
                finally:
                    self._unanswered.discard(vm_id)

            try:
                answer: T = call_within(self._patience_s, vm_id, run)
            except HostBusy:
                self._line = Connection(line.name, line.uri)
                raise
            return answer
