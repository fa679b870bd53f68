"""Opening points of a log that is very long: a month of points a minute and more, never pruned."""

from __future__ import annotations

import random
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.vm import Consistency, Disk
from leeward.lab.bench.measure import drop_caches
from leeward.vault.facade import Vault
from leeward.vault.keyspace import number_of
from leeward.vault.log import LogWriter, VmLog
from leeward.vault.stores.local import LocalStore

FOLDER = Path("/var/tmp/leeward-bench/log")
_VM = "5b0f6a8e-4c1d-4f6e-9a57-3f1f0f5f9d10"
_DISK = Disk("vda", 16384 * BLOCK_SIZE)


@dataclass(frozen=True, slots=True)
class LongLog:
    """seconds: of each round, by what was done."""

    entries: int
    seconds: dict[str, list[float]]

    def median(self, what: str) -> float:
        return statistics.median(self.seconds[what])


def long_log(entries: int, rounds: int, note: Callable[[str], None], folder: Path = FOLDER) -> LongLog:
    """A vault on the local disk; every opening is a new reader's, with a cold page cache, and reads one block."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        vault, _ = Vault.create(LocalStore(folder), "bench")
        newest = _write(vault, entries, note)
        opened = {
            "the newest point": "latest",
            "the last one before a map checkpoint": str(_last_map(vault) - 1),  # the most entries to read
            "one in the middle": str(newest // 2),
            "the oldest point": "2",  # the log begins with an epoch
        }
        seconds: dict[str, list[float]] = {name: [] for name in [*opened, "list all points"]}
        for number in range(rounds):
            note(f"round {number + 1} of {rounds}")
            for name, point in opened.items():
                log = _anew(vault, folder)
                began = time.monotonic()
                with log.open_point(point) as image:
                    image.disks[_DISK.name].read(0, BLOCK_SIZE)
                seconds[name].append(time.monotonic() - began)
            log = _anew(vault, folder)
            began = time.monotonic()
            assert log.points()[-1].seq == newest
            seconds["list all points"].append(time.monotonic() - began)
        return LongLog(entries, seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _anew(vault: Vault, folder: Path) -> VmLog:
    drop_caches()
    return Vault.open(LocalStore(folder), keys=vault.keys).log(_VM)


def _last_map(vault: Vault) -> int:
    return max(number_of(info.key) for info in vault.store.scan(f"vm/{_VM}/map/"))


def _write(vault: Vault, entries: int, note: Callable[[str], None]) -> int:
    """Points of one block each, somewhere on the disk. Returns the newest's sequence number."""
    writer = vault.log(_VM).open_writer(writer="bench")
    dice = random.Random(1)
    began = time.monotonic()
    for number in range(1, entries):
        _put(writer, dice, 10**18 + number * 10**9)
        writer.maintain()
        if number % 10_000 == 0:
            note(f"{number:,} of {entries:,} entries after {time.monotonic() - began:.0f} s")
    return writer.state.seq


def _put(writer: LogWriter, dice: random.Random, time_ns: int) -> None:
    transaction = writer.begin(
        time_ns=time_ns,
        consistency=Consistency.CRASH,
        disks=[_DISK],
        definition="<domain/>",
        tracking=str(time_ns),
        compare=False,
    )
    block = dice.randbytes(256).ljust(BLOCK_SIZE, b"\0")
    where = np.array([dice.randrange(_DISK.size // BLOCK_SIZE)], np.uint64)
    transaction.fill(transaction.reserve(), _DISK.name, where, memoryview(block), [blake3(block).digest()])
    transaction.commit()
