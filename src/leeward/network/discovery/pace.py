"""How hard a scan knocks."""

from __future__ import annotations

from dataclasses import dataclass

from leeward.domain.errors import BadInput


@dataclass(frozen=True, slots=True)
class Pace:
    """connect_s: for a connection; a little over one second, so that the kernel's second SYN is answered in time.

    talk_s: for all that is said on one connection. at_once: connections at a time. rate: new ones a second.
    """

    connect_s: float = 1.2
    talk_s: float = 3.0
    at_once: int = 64
    rate: float = 200.0

    def check(self) -> None:
        """Raises BadInput."""
        for name, value, least, most in (
            ("timeout", self.connect_s, 0.05, 30),
            ("rate", self.rate, 1, 5000),
            ("connections at once", self.at_once, 1, 500),
        ):
            if not least <= value <= most:
                raise BadInput(f"the {name} must be between {least:g} and {most:g}, not {value:g}")


DEFAULT = Pace()
