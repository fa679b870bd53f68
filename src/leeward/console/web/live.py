"""Keeps a page current: a stream of the pieces that have changed since they were last sent.

A piece has a key that says what it shows; it is made anew only when the key differs. After a reconnect everything is
sent once, so nothing that happened meanwhile is missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from leeward.console.actor import Actor, Via
from leeward.console.gate import Gate
from leeward.console.web.painter import HEADERS
from leeward.console.web.watch import Moment, Watch
from leeward.domain.access import Role
from leeward.domain.errors import LeewardError

_POLL_S = 0.1
_ALIVE_S = 10.0
# A login that ends, or a role that is taken away, ends the stream within this time.
_CHECK_S = 5.0


@dataclass(frozen=True, slots=True)
class Piece:
    """id: of the element that it replaces. key: equal while nothing has changed. make: its HTML, id included."""

    id: str
    key: object
    make: Callable[[], str]


View = Callable[[Moment], Sequence[Piece]]


def stream(request: Request, watch: Watch, view: View) -> StreamingResponse:
    """view: all pieces of the page as of a moment; called in a thread. Empty: the page has to be loaded again."""
    actor: Actor = request.state.admitted
    gate: Gate = request.app.state.gate
    events = _events(request, actor, gate, watch, view)
    return StreamingResponse(events, media_type="text/event-stream", headers={**HEADERS, "X-Accel-Buffering": "no"})


async def _events(request: Request, actor: Actor, gate: Gate, watch: Watch, view: View) -> AsyncIterator[str]:
    seen, sent = 0, dict[str, object]()
    checked = spoken = time.monotonic()
    yield "retry: 1000\n\n"
    while not watch.ended:
        now = time.monotonic()
        if now - checked > _CHECK_S:
            checked = now
            if not await run_in_threadpool(_still, gate, request, actor):
                yield "event: leeward-reload\ndata: over\n\n"
                return
        moment = watch.newest()
        if moment is None or moment.number == seen:
            if now - spoken > _ALIVE_S:
                spoken = now
                yield ": still here\n\n"
            await asyncio.sleep(_POLL_S)
            continue
        seen = moment.number
        try:
            changed, gone = await run_in_threadpool(_changed, view, moment, sent)
        except LeewardError:
            changed, gone = [], True
        if gone:
            yield "event: leeward-reload\ndata: changed\n\n"
            return
        if changed:
            spoken = now
            yield "".join(f"data: {line}\n" for html in changed for line in html.splitlines()) + "\n"


def _changed(view: View, moment: Moment, sent: dict[str, object]) -> tuple[list[str], bool]:
    pieces = view(moment)
    if not pieces:
        return [], True
    made = []
    for piece in pieces:
        if piece.id in sent and sent[piece.id] == piece.key:
            continue
        sent[piece.id] = piece.key
        made.append(f'<hx-partial hx-target="#{piece.id}" hx-swap="outerMorph">{piece.make()}</hx-partial>')
    return made, False


def _still(gate: Gate, request: Request, before: Actor) -> bool:
    """Whether the reader may still see what he sees, in the same role."""
    if before.via is Via.LOCAL:
        return True
    try:
        now = gate.actor(request)
    except LeewardError:
        return False
    return now.role is before.role and now.role is not None and now.role.covers(Role.VIEWER)
