"""The list of the Recovery page: one row a VM, found, filtered, sorted and cut into pages. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from leeward.console.once import once
from leeward.console.troubles import behind, late
from leeward.console.views import HostView, StatusView
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.watch import Moment
from leeward.domain.lifecycle import Phase, runs_away
from leeward.domain.protection import ProtectionState

PAGE = 50
# Rows that are kept from picture to picture, of as many VMs.
_KEPT = 20_000


class Level(StrEnum):
    """How a row is doing, from bad to good; each has a sign and a colour of its own."""

    BAD = "bad"
    WARN = "warn"
    BUSY = "busy"
    GOOD = "good"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Row:
    """kind: vm; shadow (what is left at home of a VM that runs elsewhere); copy (of a test); host (one without VMs).
    where: the host on which it runs. reason: in English, as agents tell it."""

    id: str
    vm_id: str
    name: str
    kind: str
    where: str
    site: str
    state: Phrase
    level: Level
    fraction: float | None = None
    reason: str = ""
    target_s: float | None = None
    late: bool = False
    size: int = 0
    tested: float | None = None
    selectable: bool = False


STATES = {
    ProtectionState.DISABLED: (N_("Disabled"), Level.OFF),
    ProtectionState.REPLICATING: (N_("Replicating"), Level.BUSY),
    ProtectionState.ENABLED: (N_("Enabled"), Level.GOOD),
    ProtectionState.RESYNCHRONIZING: (N_("Resynchronizing"), Level.WARN),
    ProtectionState.PAUSED: (N_("Paused"), Level.WARN),
    ProtectionState.ERROR: (N_("Error"), Level.BAD),
}
_MOVED = {
    Phase.FAILING_OVER: (N_("Failing over to {away}"), Level.BUSY),
    Phase.FAILOVER_STALLED: (N_("Failover has stalled"), Level.BAD),
    Phase.FAILOVER_UNDOING: (N_("Failover is being taken back"), Level.BUSY),
    Phase.AWAY: (N_("Failed over – running at {away}"), Level.WARN),
    Phase.COMMITTING: (N_("Committing – running at {away}"), Level.BUSY),
    Phase.SETTLED: (N_("Running at {away}"), Level.GOOD),
    Phase.FAILING_BACK: (N_("Coming home to {home}"), Level.BUSY),
    Phase.FAILBACK_STALLED: (N_("Failback has stalled"), Level.BAD),
    Phase.FAILBACK_UNDOING: (N_("Failback is being taken back"), Level.BUSY),
    Phase.BACK: (N_("Home again, not committed"), Level.WARN),
    Phase.FINISHING: (N_("Committing – home again"), Level.BUSY),
}


def state_of(status: StatusView) -> tuple[Phrase, Level]:
    return _state(status.state, Phase(status.phase), status.home, status.away, is_late=late(status))


def _state(state: ProtectionState, phase: Phase, home: str, away: str, *, is_late: bool) -> tuple[Phrase, Level]:
    if phase in _MOVED:
        text, level = _MOVED[phase]
        if phase is Phase.SETTLED and state is ProtectionState.ERROR:
            level = Level.BAD
        return phrase(text, away=away, home=home), level
    text, level = STATES[state]
    if level is Level.GOOD and is_late:
        level = Level.WARN
    return phrase(text), level


def size_of(moment: Moment, status: StatusView) -> int:
    vm = moment.vms.get(status.vm_id)
    if vm is not None:
        return sum(disk.size for disk in vm.disks)
    return sum(disk.size for disk in status.last_point.disks) if status.last_point else 0


@once
def all_rows(moment: Moment) -> tuple[Row, ...]:
    sites, late_ones = {host.name: host.site for host in moment.hosts}, behind(moment)
    copies = {test.copy_name for test in moment.tests if test.copy_name}
    rows = []
    for status in moment.statuses:
        if status.policy is None and status.vm in copies and status.vm_id in moment.vms:
            continue  # shown as a copy below
        rows.append(_row(moment, status, sites, is_late=status.vm_id in late_ones))
        phase = Phase(status.phase)
        if runs_away(phase) and status.home and status.home != status.host:
            rows.append(_shadow(status, sites))
    for test in moment.tests:
        if test.copy_name:
            rows.append(
                Row(
                    id=f"copy-{test.vm_id}",
                    vm_id=test.vm_id,
                    name=test.copy_name,
                    kind="copy",
                    where=test.host,
                    site=sites.get(test.host, ""),
                    state=phrase(N_("Test copy of {vm}"), vm=test.vm),
                    level=Level.BAD if test.failed else Level.GOOD if test.done else Level.BUSY,
                    reason=test.failed,
                )
            )
    return tuple(rows)


def _row(moment: Moment, status: StatusView, sites: dict[str, str], *, is_late: bool) -> Row:
    vm = moment.vms.get(status.vm_id)
    copying = status.state in (ProtectionState.REPLICATING, ProtectionState.RESYNCHRONIZING)
    disabled = status.state is ProtectionState.DISABLED
    return _vm_row(
        status.vm_id,
        status.vm,
        status.host,
        sites.get(status.host, ""),
        status.state,
        status.phase,
        status.home,
        status.away,
        round(status.progress.fraction, 3) if copying and status.progress else None,
        "" if disabled and not (vm and vm.unsupported) else status.reason,
        status.rpo_target_s,
        is_late,
        size_of(moment, status),
        moment.tested.get(status.vm_id),
    )


@lru_cache(maxsize=_KEPT)
def _vm_row(
    vm_id: str,
    name: str,
    host: str,
    site: str,
    state: ProtectionState,
    phase: str,
    home: str,
    away: str,
    fraction: float | None,
    reason: str,
    target_s: float | None,
    is_late: bool,
    size: int,
    tested: float | None,
) -> Row:
    """Most rows are as they were in the picture before."""
    text, level = _state(state, Phase(phase), home, away, is_late=is_late)
    return Row(
        id=f"vm-{vm_id}",
        vm_id=vm_id,
        name=name,
        kind="vm",
        where=host,
        site=site,
        state=text,
        level=level,
        fraction=fraction,
        reason=reason,
        target_s=target_s,
        late=is_late,
        size=size,
        tested=tested,
        selectable=True,
    )


def _shadow(status: StatusView, sites: dict[str, str]) -> Row:
    return Row(
        id=f"shadow-{status.vm_id}",
        vm_id=status.vm_id,
        name=status.vm,
        kind="shadow",
        where=status.home,
        site=sites.get(status.home, ""),
        state=phrase(N_("Kept off: it runs at {away}"), away=status.away),
        level=Level.OFF,
    )


# --- what the reader wants to see --------------------------------------------------------------------------


_ORDER = list(Level)
_SORTS: dict[str, Callable[[Row, Mapping[str, float]], Any]] = {
    "host": lambda row, _: (row.site != "source", row.where, row.name.lower()),
    "name": lambda row, _: row.name.lower(),
    "state": lambda row, _: (_ORDER.index(row.level), row.name.lower()),
    "rpo": lambda row, ages: (-ages.get(row.vm_id, -1.0) if row.kind == "vm" else 1.0, row.name.lower()),
    "size": lambda row, _: (-row.size, row.name.lower()),
    "tested": lambda row, _: (row.tested or 0.0, row.name.lower()),
}
SORTS = tuple(_SORTS)
FILTERS = ("", "attention", "protected", "disabled", "away")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a reader wants to see of the list: words to find, one host, a filter, an order, a page, a selection."""

    words: str = ""
    host: str = ""
    show: str = ""
    sort: str = "host"
    down: bool = False
    page: int = 1
    chosen: tuple[str, ...] = ()

    def query(self, **changes: Any) -> list[tuple[str, str]]:
        """As an address tells it; what is as by default is left out."""
        given = {name: getattr(self, name) for name in ("words", "host", "show", "sort", "down", "page")} | changes
        chosen = given.pop("chosen", self.chosen)
        defaults = {"words": "", "host": "", "show": "", "sort": "host", "down": False, "page": 1}
        names = {"words": "q", "down": "desc"}
        pairs = [
            (names.get(name, name), "1" if value is True else str(value))
            for name, value in given.items()
            if value != defaults[name]
        ]
        return pairs + [("vm", vm_id) for vm_id in chosen]


@dataclass(frozen=True, slots=True)
class Listing:
    """total: of all rows; found: of those that fit the wish; rows: of this page."""

    rows: tuple[Row, ...]
    total: int
    found: int
    page: int
    pages: int

    @property
    def first(self) -> int:
        return (self.page - 1) * PAGE + 1 if self.found else 0

    @property
    def last(self) -> int:
        return min(self.page * PAGE, self.found)


def listing(rows: Sequence[Row], wish: Wish, ages: Mapping[str, float]) -> Listing:
    """ages: VM id → actual RPO."""
    words = wish.words.lower().split()
    found = [row for row in rows if _fits(row, wish, words)]
    key = _SORTS[wish.sort if wish.sort in _SORTS else "host"]
    found.sort(key=lambda row: key(row, ages), reverse=wish.down)
    pages = max(1, -(-len(found) // PAGE))
    page = min(max(1, wish.page), pages)
    return Listing(tuple(found[(page - 1) * PAGE : page * PAGE]), len(rows), len(found), page, pages)


def _fits(row: Row, wish: Wish, words: list[str]) -> bool:
    if wish.host and row.where != wish.host:
        return False
    if wish.show == "attention" and row.level not in (Level.BAD, Level.WARN):
        return False
    if wish.show == "protected" and (row.kind != "vm" or row.target_s is None):
        return False
    if wish.show == "disabled" and not (row.kind == "vm" and row.target_s is None):
        return False
    if wish.show == "away" and not (row.kind == "shadow" or (row.site == "recovery" and row.kind != "host")):
        return False
    if not words:
        return True
    text = f"{row.name} {row.where} {row.vm_id}".lower()
    return all(word in text for word in words)


def host_groups(listed: Listing, hosts: Sequence[HostView]) -> dict[str, tuple[HostView | None, tuple[Row, ...]]]:
    """The page's rows under their hosts, in the order in which they come."""
    known = {host.name: host for host in hosts}
    groups: dict[str, list[Row]] = {}
    for row in listed.rows:
        groups.setdefault(row.where, []).append(row)
    return {name: (known.get(name), tuple(found)) for name, found in groups.items()}
