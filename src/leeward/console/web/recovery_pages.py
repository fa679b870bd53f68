"""Recovery: hosts and their VMs, what they are doing, and what can be done with those that are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from leeward.console.access import GuardedRoute, viewer
from leeward.console.web.empty_hosts import rows_of
from leeward.console.web.live import Piece, stream
from leeward.console.web.painter import HTMX, Reader
from leeward.console.web.parts import Parts
from leeward.console.web.possible import Act, Chance, chances, of_all
from leeward.console.web.rows import FILTERS, SORTS, Listing, Row, Wish, host_groups, listing
from leeward.console.web.rpo import Shown, rpo_piece
from leeward.console.web.watch import Moment, ages, by_id

Words = Annotated[str, Query(max_length=200)]
Chosen = Annotated[list[str], Query(alias="vm", max_length=1000)]


@dataclass(frozen=True, slots=True)
class Task:
    """One line of the tasks pane. href "": it cannot be done now, and the chance says why."""

    chance: Chance
    href: str


@dataclass(frozen=True, slots=True)
class Picture(Shown):
    """Everything that the page shows as of a moment."""

    wish: Wish
    listed: Listing
    tasks: tuple[Task, ...]
    chosen: tuple[str, ...]

    @property
    def groups(self) -> Any:
        return host_groups(self.listed, self.moment.hosts)

    @property
    def grouped(self) -> bool:
        return self.wish.sort == "host" and not self.wish.down


def picture(moment: Moment, wish: Wish, reader: Reader) -> Picture:
    listed, known = listing(rows_of(moment, wish), wish, ages(moment)), by_id(moment)
    chosen = tuple(vm_id for vm_id in wish.chosen if vm_id in known)
    each = [chances(moment, known[vm_id], reader.actor.role) for vm_id in chosen]
    tasks = tuple(Task(chance, address(chance.act, chosen) if chance.open else "") for chance in of_all(each))
    names = tuple(known[vm_id].vm for vm_id in chosen)
    return Picture(moment, wish, listed, tasks, names)


def address(act: Act, vm_ids: Sequence[str]) -> str:
    """The page on which this is decided."""
    query = urlencode([("vm", vm_id) for vm_id in vm_ids])
    if act in (Act.ENABLE, Act.POLICY):
        return f"/enable?{query}"
    if act is Act.FAILOVER or (act is Act.TEST and len(vm_ids) == 1):
        return f"/failover?{query}" + ("&type=test" if act is Act.TEST else "")
    return f"/do/{act}?{query}"


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    paint, watch = parts.painter.page, parts.watch

    @pages.get("/recovery", dependencies=viewer)
    def recovery(
        request: Request,
        vm: Chosen = [],  # noqa: B006 – FastAPI copies it
        q: Words = "",
        host: Words = "",
        show: str = "",
        sort: str = "host",
        desc: bool = False,
        page: int = 1,
        last: Words = "",
        every: bool = False,
    ) -> Response:
        """last: what was looked for when the page number was right. every: choose all VMs of this page."""
        wish = make_wish(vm, q, host, show, sort, desc, page)
        if last != f"{wish.words}|{wish.show}" and "last" in request.query_params:
            wish = make_wish(vm, q, host, show, sort, desc, 1)
        reader, moment = parts.painter.reader(request), watch.look()
        shown = picture(moment, wish, reader)
        if every:
            every_id = [row.vm_id for row in shown.listed.rows if row.selectable]
            both = [*wish.chosen, *every_id] if not set(every_id) <= set(wish.chosen) else []
            shown = picture(moment, make_wish(both, q, host, show, sort, desc, wish.page), reader)
        response = paint(request, "recovery.html", shown=shown)
        if HTMX in request.headers:
            query = urlencode(shown.wish.query())
            response.headers["HX-Replace-Url"] = "/recovery" + (f"?{query}" if query else "")
        return response

    @pages.get("/recovery/live", dependencies=viewer)
    def recovery_live(
        request: Request,
        vm: Chosen = [],  # noqa: B006
        q: Words = "",
        host: Words = "",
        show: str = "",
        sort: str = "host",
        desc: bool = False,
        page: int = 1,
    ) -> Response:
        wish = make_wish(vm, q, host, show, sort, desc, page)
        reader = parts.painter.reader(request)
        pieces = parts.painter.pieces(reader, "recovery_pieces.html")
        return stream(request, watch, lambda moment: live_pieces(pieces, picture(moment, wish, reader)))

    return pages


def make_wish(vm: list[str], q: str, host: str, show: str, sort: str, desc: bool, page: int) -> Wish:
    return Wish(
        words=q.strip(),
        host=host,
        show=show if show in FILTERS else "",
        sort=sort if sort in SORTS else "host",
        down=desc,
        page=max(1, min(page, 100_000)),
        chosen=tuple(dict.fromkeys(vm)),
    )


def live_pieces(pieces: Any, shown: Picture) -> list[Piece]:
    """While the same rows stand in the same order only what changed in them is sent; else the list as a whole."""
    hosts = [(host.name, host.error, host.vms) for host in shown.moment.hosts] if shown.grouped else []
    found = [
        Piece("count", (shown.listed.found, shown.listed.total), lambda: str(pieces.count(shown))),
        Piece("list", ([row.id for row in shown.listed.rows], hosts), lambda: str(pieces.table(shown))),
        Piece("tasks", (shown.tasks, shown.chosen), lambda: str(pieces.tasks(shown))),
    ]
    for row in shown.listed.rows:
        found.append(Piece(row.id, row, _maker(pieces.row, shown, row)))
        if row.kind == "vm" and row.target_s is not None:
            found.append(rpo_piece(pieces, shown, row))
    return found


def _maker(macro: Any, shown: Picture, row: Row) -> Callable[[], str]:
    return lambda: str(macro(shown, row))
