"""Errors as pages: what the API says in JSON, said to a person in a browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from leeward.console.errors import Internal, status_of, told
from leeward.console.gate import changes
from leeward.console.web.painter import HEADERS, HTMX, Painter, for_terminals, go, here
from leeward.console.web.phrases import N_
from leeward.domain.errors import BadInput, Forbidden, LeewardError, NotFound, NotSignedIn
from leeward.logs import log

_TITLES = {
    401: N_("Sign in first"),
    403: N_("Not for your role"),
    404: N_("There is no such page"),
    409: N_("Not now"),
    422: N_("That cannot be used"),
    429: N_("Too many attempts"),
    503: N_("Not available now"),
}
# What programs ask for: errors are JSON there.
FOR_PROGRAMS = ("/api/", "/metrics")
_OTHER = N_("Something went wrong")

Handler = Callable[[Request, Any], Awaitable[Response]]


def install_pages(app: FastAPI, painter: Painter) -> None:
    """From now on errors are pages, but for programs."""

    def show(request: Request, error: LeewardError, status: int | None = None) -> Response:
        number = status or status_of(error)
        if isinstance(error, NotSignedIn):
            return _to_sign_in(request)
        title = _TITLES.get(number, _OTHER)
        hint = "" if for_terminals(error.hint) else error.hint
        message = f"{error.subject}: {error.message}" if error.subject and number >= 500 else error.message
        response = painter.page(request, "error.html", number, title=title, message=message, hint=hint)
        if HTMX in request.headers:
            # A button's own place is no place for a whole page; show it as one.
            response.headers.update({"HX-Retarget": "body", "HX-Reswap": "innerHTML", "HX-Reselect": "body > *"})
        return response

    async def failed(request: Request, error: LeewardError) -> Response:
        return await run_in_threadpool(show, request, error)

    async def unusable(request: Request, error: RequestValidationError) -> Response:
        # What Pydantic says of it is for programmers, and in English alone.
        bad = BadInput(f"in the address or the form, this cannot be used: {told(error).subject}")
        return await run_in_threadpool(show, request, bad)

    async def http(request: Request, error: HTTPException) -> Response:
        known: LeewardError = LeewardError(str(error.detail).lower())
        if error.status_code == 404:
            known = NotFound("the address is wrong, or what it led to is gone")
        if error.status_code == 403:
            known = Forbidden(str(error.detail))
        return await run_in_threadpool(show, request, known, error.status_code)

    async def crashed(request: Request, error: Exception) -> Response:
        log.error("a page failed", path=request.url.path, error=repr(error))
        return await run_in_threadpool(
            show, request, Internal("an error inside Leeward", hint="See the daemon's log"), 500
        )

    for kind, handler in (
        (LeewardError, failed),
        (RequestValidationError, unusable),
        (HTTPException, http),
        (Exception, crashed),
    ):
        app.exception_handlers[kind] = _either(app.exception_handlers[kind], handler)


def _either(api: Any, pages: Any) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        chosen: Handler = api if request.url.path.startswith(FOR_PROGRAMS) else pages
        return await chosen(request, error)

    return handle


def _to_sign_in(request: Request) -> Response:
    """A page that somebody asked for comes after signing in; a change does not, it has to be asked for again."""
    target = here(request)
    if HTMX in request.headers:
        current = urlsplit(request.headers.get("hx-current-url", "/"))
        target = current.path + (f"?{current.query}" if current.query else "")
        headers = {"HX-Redirect": f"/sign-in?next={quote(target)}", **HEADERS}
        return Response(status_code=401, headers=headers)
    if changes(request):
        return Response("sign in first", 401, HEADERS, "text/plain")
    return go(request, f"/sign-in?next={quote(target)}")
