"""Hosts without VMs, on the Recovery page: a row each, so that nobody looks for a host that is there. Pure.

They belong to the list by hosts; ordered by what VMs are like they would have no place.
"""

from __future__ import annotations

from hashlib import sha256

from leeward.console.once import once
from leeward.console.views import HostView
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.rows import Level, Row, Wish, all_rows
from leeward.console.web.watch import Moment

_SOURCE = N_("No VMs. As soon as one is defined on it, it is listed here.")
_RECOVERY = N_("No VMs. Those that are tested or failed over come up here.")
_AWAY = N_("No VMs are known there. As soon as it answers, its VMs are listed here.")


def rows_of(moment: Moment, wish: Wish) -> tuple[Row, ...]:
    return _with_hosts(moment) if wish.sort == "host" else all_rows(moment)


@once
def _with_hosts(moment: Moment) -> tuple[Row, ...]:
    rows = all_rows(moment)
    taken = {row.where for row in rows}
    return (*rows, *(_row(host) for host in moment.hosts if host.name not in taken))


def _row(host: HostView) -> Row:
    return Row(
        # A name may have dots, which mean something else where a page's piece is looked for by its id.
        id=f"empty-{sha256(host.name.encode()).hexdigest()[:12]}",
        vm_id="",
        name=host.name,
        kind="host",
        where=host.name,
        site=host.site,
        state=_text(host),
        level=Level.OFF if host.reachable else Level.BAD,
        reason="" if host.reachable else host.error,
    )


def _text(host: HostView) -> Phrase:
    if not host.reachable:
        return phrase(_AWAY)
    return phrase(_RECOVERY if host.site == "recovery" else _SOURCE)
