"""The files that pages load: read once, compressed once, kept by browsers for ever under an address that changes with
them."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, everybody
from leeward.domain.errors import NotFound

_KINDS = {
    "leeward.css": "text/css; charset=utf-8",
    "leeward.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "hx-sse.min.js": "text/javascript; charset=utf-8",
    "icons.svg": "image/svg+xml",
    "favicon.svg": "image/svg+xml",
}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _Asset:
    kind: str
    plain: bytes
    packed: bytes


class Assets:
    def __init__(self) -> None:
        folder = files("leeward.console.web") / "assets"
        found = {name: (folder / name).read_bytes() for name in _KINDS}
        self._assets = {
            name: _Asset(_KINDS[name], data, gzip.compress(data, 9, mtime=0)) for name, data in found.items()
        }
        self.version = hashlib.sha256(b"".join(found[name] for name in sorted(found))).hexdigest()[:12]

    def url(self, name: str) -> str:
        return f"/assets/{self.version}/{name}"

    def router(self) -> APIRouter:
        router = APIRouter(route_class=GuardedRoute)

        @router.get("/assets/{version}/{name}", dependencies=everybody)
        def asset(version: str, name: str, request: Request) -> Response:
            found = self._assets.get(name)
            if found is None:
                raise NotFound("there is no such file", subject=name)
            packed = "gzip" in request.headers.get("accept-encoding", "")
            headers = {
                "Cache-Control": _FOREVER if version == self.version else "no-store",
                "Vary": "Accept-Encoding",
            }
            if packed:
                headers["Content-Encoding"] = "gzip"
            return Response(found.packed if packed else found.plain, media_type=found.kind, headers=headers)

        return router
