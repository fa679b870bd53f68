"""Progress of a long copy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """done / total: bytes of disk examined; sent: bytes put into the vault; rate: bytes examined a second.

    eta_s: seconds left at this rate; None while unknown.
    """

    phase: str
    done: int
    total: int
    sent: int
    rate: float
    eta_s: float | None

    @property
    def fraction(self) -> float:
        return 1.0 if self.total == 0 else self.done / self.total
