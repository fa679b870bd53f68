"""The consoles of one database, as people see them."""

from __future__ import annotations

from pydantic import BaseModel

from leeward.domain.errors import NotFound
from leeward.state.seat import Known, Member, SeatBook

# A console tells every three seconds that it lives; see `leeward.console.seat`.
_SILENT_S = 15.0


class ConsoleView(BaseModel):
    """state: active, standby, stopped (in good order) or silent (not heard of). heard_s: since it was last heard of.
    address, agents: https://host:port for people and for agents. trouble: why it could not take over, "" for nothing.
    """

    name: str
    state: str
    address: str
    agents: str
    heard_s: float
    software: str
    trouble: str


class Consoles:
    """book: None where the database is this console's alone (SQLite)."""

    def __init__(self, book: SeatBook | None, me: Member) -> None:
        self._book = book
        self._me = me

    def views(self) -> list[ConsoleView]:
        """By name."""
        known = self._book.all() if self._book else [Known(self._me, active=True, silent_s=0.0)]
        return [_view(one) for one in known]

    def forget(self, name: str) -> list[ConsoleView]:
        """A console that is gone for good; those that are left. Raises NotFound, Refused."""
        if self._book is None:
            raise NotFound("this console shares its database with no other one", subject=name)
        self._book.forget(name)
        return self.views()


def _view(known: Known) -> ConsoleView:
    me = known.member
    return ConsoleView(
        name=me.name,
        state=_state(known),
        address=me.address,
        agents=me.agents,
        heard_s=round(known.silent_s, 1),
        software=me.software,
        trouble=me.trouble,
    )


def _state(known: Known) -> str:
    if known.active:
        return "active"
    if not known.member.instance:
        return "stopped"
    return "silent" if known.silent_s > _SILENT_S else "standby"
