"""Finding hosts: ranges, a scan that is watched and can be cancelled, what it found, hosts that are added by name."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, admin
from leeward.console.web.forms import Form, Posted, required
from leeward.console.web.integrate_pages import wizard_page
from leeward.console.web.integrating import HOME
from leeward.console.web.live import Piece, stream
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Quote, phrase
from leeward.console.web.watch import Moment
from leeward.domain.errors import BadInput, LeewardError
from leeward.network.discovery.own_networks import own_networks
from leeward.network.discovery.scans import State


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    integration = parts.integration

    def scan_page(
        request: Request, status: int = 200, trouble: Trouble | None = None, of: str = "", values: Form | None = None
    ) -> Response:
        """of: which of the page's forms the trouble is of."""
        progress = integration.progress()
        scan = integration.scan()
        return wizard_page(
            parts,
            request,
            "integrate_scan.html",
            "scan",
            status,
            trouble=trouble,
            of=of,
            progress=progress,
            scan=scan,
            lost=scan is None and progress.scan_id != "",
            picked={pick.address for pick in progress.picks},
            suggested=own_networks(),
            values=values or Form([("ranges", progress.ranges)]),
        )

    @pages.get("/services/recovery/scan", dependencies=admin)
    def integrate_scan(request: Request) -> Response:
        return scan_page(request)

    @pages.get("/services/recovery/scan/live", dependencies=admin)
    def integrate_scan_live(request: Request) -> Response:
        """While it runs; then the page is loaded anew, to be chosen from."""
        pieces = parts.painter.pieces(parts.painter.reader(request), "integrate_pieces.html")

        def view(_: Moment) -> Sequence[Piece]:
            scan = integration.scan()
            if scan is None or scan.state is not State.RUNNING:
                return []
            found = [(one.address, one.what, one.name) for one in scan.findings]
            return [
                Piece("scan-bar", (scan.done, scan.alive, scan.found), lambda: str(pieces.scan_bar(scan))),
                Piece("scan-found", found, lambda: str(pieces.scan_found(scan, set()))),
            ]

        return stream(request, parts.watch, view)

    @pages.post("/services/recovery/scan", dependencies=admin)
    def begin_scan(request: Request, form: Posted) -> Response:
        ranges = (form["suggested"] or form["ranges"]).strip()
        about(request, ranges[:200])
        if not ranges:
            return scan_page(request, 422, wrong(required(form, "ranges")), "scan", form)
        try:
            integration.begin_scan(ranges)
        except LeewardError as error:
            trouble, status = _at(request, error, "ranges")
            return scan_page(request, status, trouble, "scan", form)
        return go(request, f"{HOME}/scan")

    @pages.post("/services/recovery/scan/cancel", dependencies=admin)
    def cancel_scan(request: Request) -> Response:
        about(request, integration.progress().ranges[:200])
        integration.cancel_scan()
        return go(request, f"{HOME}/scan")

    @pages.post("/services/recovery/scan/pick", dependencies=admin)
    def pick_hosts(request: Request, form: Posted) -> Response:
        about(request, ", ".join(form.all("address"))[:200])
        try:
            integration.pick(form.all("address"))
        except LeewardError as error:
            trouble, status = _at(request, error, "address")
            return scan_page(request, status, trouble, "pick")
        return go(request, f"{HOME}/hosts")

    @pages.post("/services/recovery/scan/add", dependencies=admin)
    def add_host_by_name(request: Request, form: Posted) -> Response:
        about(request, form["host"][:200])
        bad = required(form, "host")
        if bad:
            return scan_page(request, 422, wrong(bad), "add", form)
        try:
            integration.add(form["host"].strip())
        except LeewardError as error:
            trouble, status = _at(request, error, "host")
            return scan_page(request, status, trouble, "add", form)
        return go(request, f"{HOME}/hosts")

    return pages


def _at(request: Request, error: LeewardError, field: str) -> tuple[Trouble, int]:
    """What cannot be read stands beside the field, with the part of it that is meant."""
    trouble, status = trouble_of(request, error)
    if not isinstance(error, BadInput):
        return trouble, status
    why = phrase(N_("{vm}: {why}"), vm=error.subject, why=Quote(error.message)) if error.subject else trouble.message
    return Trouble(why, trouble.hint, {field: why}), status
