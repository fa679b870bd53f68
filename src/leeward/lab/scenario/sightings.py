"""When a VM was seen at a site, and what follows from it: pure.

A look takes time, and sites are looked at one after the other. So that a VM ran at two sites at once is said only
where it is certain: it was seen at one site, then at the other, and then at the first one again, which it had not
left in between.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look at one site, from begin to end. present: the VM was there."""

    site: str
    begin: float
    end: float
    present: bool


@dataclass(frozen=True, slots=True)
class Twice:
    """From when until when a VM was at two sites."""

    begin: float
    end: float


class Sightings:
    """Of one VM, by one kind of look. `saw` in the order of their ends for each site."""

    def __init__(self) -> None:
        # Site → the looks of the unbroken stay that its last look belongs to.
        self._stays: dict[str, list[Sighting]] = {}
        self.twice: list[Twice] = []

    def saw(self, sighting: Sighting) -> Twice | None:
        """What this look proves."""
        if not sighting.present:
            self._stays.pop(sighting.site, None)
            return None
        stay = self._stays.setdefault(sighting.site, [])
        proof = self._proof(stay[-1], sighting) if stay else None
        stay.append(sighting)
        if proof is not None:
            self.twice.append(proof)
        return proof

    def _proof(self, before: Sighting, now: Sighting) -> Twice | None:
        """Was it seen elsewhere between two looks here that both found it?"""
        for site, stay in self._stays.items():
            if site == now.site:
                continue
            between = [look for look in stay if look.begin >= before.end and look.end <= now.begin]
            if between:
                return Twice(between[0].begin, between[-1].end)
        return None


@dataclass(slots=True)
class Records:
    """The newest record that a guest had durably, as it told its clients, by when the answer had come.

    Numbers may go back: a life that begins from a recovery point goes on from there.
    """

    told: list[tuple[float, int]] = field(default_factory=list)

    def heard(self, time: float, number: int) -> None:
        bisect.insort(self.told, (time, number))

    def by(self, time: float) -> int:
        """What was told last before this time; 0 for nothing."""
        place = bisect.bisect_left(self.told, (time, 0))
        return self.told[place - 1][1] if place else 0
