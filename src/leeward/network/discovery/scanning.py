"""The scan itself: doors × addresses, a bounded number at once, at a polite rate, to be cancelled at any time."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

from leeward.domain.errors import LeewardError
from leeward.network.discovery import neighbours
from leeward.network.discovery.knocking import Knock, Outcome, knock
from leeward.network.discovery.pace import Pace
from leeward.network.discovery.ranges import Address
from leeward.network.discovery.signs import DOORS, Door

# An address on our own network that did not answer ARP for this long is nobody's. The kernel asks once a second, and
# says itself that an address is unreachable when it has asked often enough.
_ARP_PATIENCE_S = 1.0


class Sink(Protocol):
    """Where results go, one call for each door of each address, from the scan's own thread."""

    def knocked(self, address: Address, door: Door, result: Knock) -> None: ...


def order(addresses: Sequence[Address], doors: Sequence[Door]) -> Iterator[tuple[Address, Door]]:
    """Door by door over all addresses: a host's doors are knocked at as far apart as can be. Pure."""
    return ((address, door) for door in doors for address in addresses)


async def scan(addresses: Sequence[Address], pace: Pace, sink: Sink, doors: Sequence[Door] = DOORS) -> None:
    """Knock everywhere. Ends within moments of a cancel, with CancelledError.

    Raises Unavailable when this machine cannot open connections.
    """
    knocker = _Knocker(pace, sink)
    todo = order(addresses, doors)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(pace.at_once, len(addresses) * len(doors))):
                group.create_task(knocker.work(todo))
    except ExceptionGroup as several:
        ours = several.subgroup(LeewardError)
        raise (ours.exceptions[0] if ours is not None else several) from None


class _Knocker:
    def __init__(self, pace: Pace, sink: Sink) -> None:
        self._pace = pace
        self._sink = sink
        self._next = 0.0  # when the next connection may begin
        self._in_vain: defaultdict[Address, float] = defaultdict(float)  # seconds without an answer to ARP
        self._absent: set[Address] = set()

    async def work(self, todo: Iterator[tuple[Address, Door]]) -> None:
        """One of many, all of which share `todo`."""
        for address, door in todo:
            if address in self._absent:
                self._sink.knocked(address, door, Knock(Outcome.ABSENT))
                continue
            await self._turn()
            began = time.monotonic()
            result = await knock(address, door, self._pace.connect_s, self._pace.talk_s)
            self._watch_arp(address, result.outcome, time.monotonic() - began)
            self._sink.knocked(address, door, result)

    def _watch_arp(self, address: Address, outcome: Outcome, waited_s: float) -> None:
        if outcome not in (Outcome.SILENT, Outcome.UNREACHABLE) or not neighbours.is_nobodys(address):
            return
        self._in_vain[address] += waited_s
        # Unreachable: not by word of that machine, since nothing can come from it before it has answered ARP.
        if outcome is Outcome.UNREACHABLE or self._in_vain[address] >= _ARP_PATIENCE_S:
            self._absent.add(address)

    async def _turn(self) -> None:
        """Wait for the next free place in time."""
        now = time.monotonic()
        mine = max(now, self._next)
        self._next = mine + 1 / self._pace.rate
        if mine > now:
            await asyncio.sleep(mine - now)
