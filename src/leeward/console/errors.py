"""Every error that leaves the API has one shape: {"error": {code, message, subject, hint, exit_code}}."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from leeward.domain.errors import (
    BadInput,
    Forbidden,
    LeewardError,
    NotFound,
    NotSignedIn,
    Refused,
    TooManyAttempts,
    Unavailable,
)
from leeward.logs import log
from leeward.wire.faults import words_of

# The first that fits; everything else is a 500.
_STATUS: list[tuple[type[LeewardError], int]] = [
    (BadInput, 422),
    (NotSignedIn, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Refused, 409),
    (TooManyAttempts, 429),
    (Unavailable, 503),
]


class Internal(LeewardError):
    """A bug of ours."""

    code = "internal"
    exit_code = 70


def status_of(error: LeewardError) -> int:
    return next((number for kind, number in _STATUS if isinstance(error, kind)), 500)


def answer(error: LeewardError, status: int | None = None) -> JSONResponse:
    headers = {}
    if isinstance(error, NotSignedIn):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooManyAttempts):
        headers["Retry-After"] = str(error.wait_s)
    body = {"error": {**error.as_dict(), "exit_code": error.exit_code}}
    return JSONResponse(body, status or status_of(error), headers)


def told(error: RequestValidationError) -> BadInput:
    """The first field that cannot be used, by name. What was given is not repeated: it may be a password."""
    first: dict[str, Any] = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "json_invalid":
        return BadInput("the body is not JSON", subject="body")
    # Where a value came from (body, query, path) is of interest only when nothing more is known.
    field = ".".join(place[1:]) or place[0]
    if first["type"] in ("model_attributes_type", "dict_type") and len(place) == 1:
        return BadInput("a JSON object with Content-Type: application/json is expected", subject=field)
    return BadInput(f"{field}: {words_of(first)}", subject=field)


def _from_http(error: HTTPException) -> LeewardError:
    if error.status_code == 404:
        return NotFound("the API has no such address", hint="See /api/v1/openapi.json")
    if error.status_code in (405, 413):
        return BadInput(str(error.detail).lower())
    return LeewardError(str(error.detail))


def install(app: FastAPI) -> None:
    @app.exception_handler(LeewardError)
    async def failed(_: Request, error: LeewardError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def unusable(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(told(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        response = answer(_from_http(error), error.status_code)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def crashed(request: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", path=request.url.path, error=repr(error))
        return answer(Internal("an error inside Leeward", subject=request.url.path, hint="See the daemon's log"))
