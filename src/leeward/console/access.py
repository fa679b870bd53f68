"""Roles, declared where an endpoint is declared, and enforced before anything of it runs.

    @app.get("/api/v1/vms", dependencies=viewer)

`unguarded` lets an app be refused, when it is built, that has an endpoint without a declaration. The check itself
stands before the request's body is read. The dependency sees to it that the check was made, so that not even a route
of another class is open by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message

from leeward.console.actor import Actor, nobody
from leeward.console.errors import status_of, told
from leeward.console.gate import Gate, address_of, admit, changes
from leeward.console.trail import Trail
from leeward.domain.access import Role
from leeward.domain.errors import LeewardError, NotSignedIn
from leeward.state.database import acting

# Far more than any request of ours has.
_MOST_BYTES = 1 << 20

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Needs:
    """role: the least that may call; None: everybody, signed in or not. keeps: False for what comes as a POST and
    changes nothing here (a question too long for an address, the looks of pages in one browser): the audit log is not
    told."""

    role: Role | None
    keeps: bool = True

    async def __call__(self, request: Request) -> None:
        if getattr(request.state, "admitted", None) is None:
            raise NotSignedIn("nobody was admitted here")


def needs(role: Role | None) -> list[Dependency]:
    return [Depends(Needs(role))]


everybody = needs(None)
browsing = [Depends(Needs(None, keeps=False))]
viewer = needs(Role.VIEWER)
operator = needs(Role.OPERATOR)
drafting = [Depends(Needs(Role.OPERATOR, keeps=False))]
admin = needs(Role.ADMIN)


def actor_of(request: Request) -> Actor:
    """Who is asking, inside an endpoint."""
    actor: Actor = request.state.admitted
    return actor


def about(request: Request, subject: str, detail: str = "") -> None:
    """What the audit log shall say of this request, where the address does not tell it. Never a secret."""
    request.state.subject = subject
    request.state.detail = detail


def signed_in(request: Request, user: str) -> None:
    """Somebody who was nobody has shown just now who he is: the audit log shall have it as done by that user."""
    request.state.became = user


class GuardedRoute(APIRoute):
    """An endpoint that cannot be made without a declared role, nor be reached without it."""

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()
        declared = [one.dependency for one in self.dependencies if isinstance(one.dependency, Needs)]
        if len(declared) != 1:
            raise RuntimeError(f"{self.path}: give it one of dependencies=everybody, viewer, operator or admin")
        (needed,) = declared
        name = self.name.replace("_", " ")

        async def guarded(request: Request) -> Response:
            return await _pass(_bounded(request), needed, name, handler)

        return guarded


def guard(app: FastAPI, gate: Gate, trail: Trail) -> None:
    """All endpoints added from now on are guarded."""
    app.router.route_class = GuardedRoute
    app.state.gate, app.state.trail = gate, trail


def unguarded(app: FastAPI, public: Collection[str] = ()) -> list[str]:
    """Paths without a guard, except `public` ones (folders of files that hold nothing secret)."""
    return [
        str(context.path)
        for context in iter_route_contexts(app.routes)
        if not isinstance(context.original_route, GuardedRoute) and context.path not in public
    ]


def _bounded(request: Request) -> Request:
    """The same request, whose body ends in an error when it is too large. An HTTPException: FastAPI would make a
    "400" of any other that comes up while it reads."""
    left = _MOST_BYTES

    async def receive() -> Message:
        nonlocal left
        message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, "the body is too large")
        return message

    return Request(request.scope, receive)


async def _pass(request: Request, needed: Needs, name: str, handler: Handler) -> Response:
    gate: Gate = request.app.state.gate
    trail: Trail = request.app.state.trail
    actor = nobody(address_of(request))
    role, changing = needed.role, needed.keeps and changes(request)
    try:
        if role is None:
            actor = gate.passer(request)
        else:
            actor = await run_in_threadpool(gate.actor, request)
            admit(actor, role, request)
    except LeewardError as error:
        if changing:
            await run_in_threadpool(_refused, trail, request, actor, name, error)
        raise
    request.state.admitted = actor
    token = acting.set(actor.who)
    try:
        if not changing:
            return await handler(request)
        return await _audited(request, actor, trail, name, handler)
    finally:
        acting.reset(token)


def _refused(trail: Trail, request: Request, actor: Actor, name: str, error: LeewardError) -> None:
    status, subject = status_of(error), _subject(request)
    if actor.role is None:
        trail.stranger(actor, name, status, subject, error.message)
    else:
        trail.end(trail.begin(actor, name, subject), status, subject, error.message)


async def _audited(request: Request, actor: Actor, trail: Trail, name: str, handler: Handler) -> Response:
    begun = None
    if actor.role is not None:
        begun = await run_in_threadpool(trail.begin, actor, name, _subject(request))

    async def note(status: int, why: str) -> None:
        detail = why or getattr(request.state, "detail", "")
        if begun is not None:
            await run_in_threadpool(trail.end, begun, status, _subject(request), detail)
        else:
            now = replace(actor, who=getattr(request.state, "became", actor.who))
            await run_in_threadpool(trail.stranger, now, name, status, _subject(request), detail)

    try:
        response = await handler(request)
    except Exception as error:
        await note(*_told(error))
        raise
    await note(response.status_code, "")
    return response


def _told(error: Exception) -> tuple[int, str]:
    if isinstance(error, LeewardError):
        return status_of(error), error.message
    if isinstance(error, RequestValidationError):
        return 422, told(error).message
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    return 500, type(error).__name__


def _subject(request: Request) -> str:
    given = getattr(request.state, "subject", None)
    return given if given is not None else " ".join(str(value) for value in request.path_params.values())
