"""What a console says that stands by, and the front that lets the right one of the two speak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from leeward import __version__
from leeward.console.errors import answer
from leeward.domain.errors import LeewardError, NotFound, Unavailable

HEALTHZ = "/healthz"


class Standby(Unavailable):
    """Another console works; this one only waits for its seat."""

    code = "standby"


def who_works(name: str, address: str) -> Standby:
    """What a standby answers to everything. name: of the console that works, "" when none does."""
    if not name:
        return Standby("this console stands by, and none works at this moment", hint="Try again within half a minute")
    ask = f"Ask {address} (`leeward login {address}`)" if address else f"Ask it on its own machine, {name}"
    return Standby(f"this console stands by; the active one is {name}", hint=ask)


class Front:
    """The application that listeners serve. `/healthz` tells load balancers where to send people: 200 where the
    console works, 503 where it stands by.

    name: of this console. holds: whether it may act. ca: its authority's certificate and fingerprint, which a person
    signing in may fetch here too. active: (name, address) of the console that works.
    """

    def __init__(
        self,
        name: str,
        holds: Callable[[], bool] = lambda: True,
        ca: tuple[str, str] | None = None,
        active: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> None:
        self._name = name
        self._holds = holds
        self._ca = ca
        self._active = active
        self._api: ASGIApp | None = None

    def open(self, api: ASGIApp) -> None:
        """From now on this console works. From any thread."""
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        api = self._api if self._holds() else None
        if scope["type"] != "http":
            return
        if scope["path"] == HEALTHZ:
            state = {"state": "active" if api else "standby", "console": self._name}
            await JSONResponse(state, 200 if api else 503)(scope, receive, send)
        elif api is not None:
            await api(scope, receive, send)
        else:
            await self._stand_by(Request(scope))(scope, receive, send)

    def _stand_by(self, request: Request) -> JSONResponse:
        asked = (request.method, request.url.path)
        if asked == ("GET", "/api/v1/health"):
            return JSONResponse({"version": __version__, "state": "standby"})
        try:
            if asked == ("GET", "/api/v1/ca"):
                return JSONResponse(self._certificate())
            raise who_works(*self._active())
        except LeewardError as error:
            return answer(error)

    def _certificate(self) -> dict[str, Any]:
        if self._ca is None:
            raise NotFound("this console has no authority of its own")
        return {"certificate": self._ca[0], "fingerprint": self._ca[1]}
