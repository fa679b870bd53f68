"""Where an agent looks for its console: of several that share one database one answers at a time. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class Consoles:
    """Addresses in turn, from the one that answered last on."""

    def __init__(self) -> None:
        self._addresses: tuple[str, ...] = ()
        self._at = 0
        self._tried = 0

    @property
    def current(self) -> str:
        """ "" when none is known."""
        return self._addresses[self._at] if self._addresses else ""

    @property
    def several(self) -> bool:
        return len(self._addresses) > 1

    def use(self, addresses: Sequence[str]) -> None:
        """Only these from now on; the current one stays it, if it is among them."""
        current = self.current
        self._addresses = tuple(
            dict.fromkeys(address.strip().rstrip("/") for address in addresses if address.strip())
        )
        self._at = self._addresses.index(current) if current in self._addresses else 0
        self._tried = 0

    def answered(self) -> None:
        self._tried = 0

    def failed(self) -> bool:
        """The next one is to be tried. True: every one has failed by now since one answered, or since last true."""
        if self._addresses:
            self._at = (self._at + 1) % len(self._addresses)
        self._tried += 1
        if self._tried < len(self._addresses):
            return False
        self._tried = 0
        return True


def addresses(configured: str, told: Sequence[str], enrolled: str) -> tuple[str, ...]:
    """configured: by this host's operator, who may know a way that the console does not; it alone counts then."""
    if configured:
        return tuple(configured.split(","))
    return (*told, enrolled) if enrolled not in told else tuple(told)
