"""Ending processes that are proven to be the lab's own."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

_MODULES = (b"leeward.cli.main", b"leeward.recovery.export", b"leeward.lab.cloud")
_PROGRAMS = ("libvirtd", "qemu-system-", "qemu-nbd", "dnsmasq")


def strays(root: Path) -> Iterator[int]:
    """Processes of the kinds that a lab runs whose command line names a path below `root`.

    They are what is left when a namespace's name was lost, so that the namespace cannot be searched any more.
    """
    mark = bytes(root) + b"/"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if (_is_hypervisor(words) or is_leeward(words)) and any(mark in word for word in words[1:]):
            yield int(entry.name)


def _is_hypervisor(words: list[bytes]) -> bool:
    program = os.path.basename(words[0]).decode(errors="replace")  # noqa: PTH119 - a word, not a path of ours
    return program.startswith(_PROGRAMS)


def is_leeward(words: list[bytes]) -> bool:
    """Leeward's own daemon and export processes: `python -m leeward.…` with the lab's files as arguments."""
    return any(option == b"-m" and module in _MODULES for option, module in pairwise(words))


def end(
    pids: Iterable[int],
    still_ours: Callable[[int], bool],
    patience_s: float = 5.0,
    numbers: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGKILL),
) -> None:
    """SIGTERM, then SIGKILL after `patience_s` (or these other signals); returns when all are gone.

    A process is held by a pidfd and looked at once more (`still_ours`) before it is signalled, so a number that was
    given to somebody else meanwhile does no harm.
    """
    handles = [handle for pid in pids if (handle := _hold(pid, still_ours)) is not None]
    try:
        for number in numbers:
            for handle in handles:
                _send(handle, number)
            handles = _wait(handles, patience_s)
    finally:
        for handle in handles:
            os.close(handle)


def _hold(pid: int, still_ours: Callable[[int], bool]) -> int | None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if still_ours(pid):
        return handle
    os.close(handle)
    return None


def _send(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return  # it ended by itself


def _wait(handles: list[int], patience_s: float) -> list[int]:
    """Close the handles of those that ended in time; the others are returned."""
    deadline = time.monotonic() + patience_s
    while handles:
        ended, _, _ = select.select(handles, [], [], max(0.0, deadline - time.monotonic()))
        if not ended:
            break
        for handle in ended:
            os.close(handle)
            handles.remove(handle)
    return handles
