"""How much room the vault has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of the vault's file system."""

    size: int
    free: int

    @property
    def used(self) -> float:
        """Which part of what may be written is in use."""
        return 1.0 - self.free / self.size if self.size else 1.0
