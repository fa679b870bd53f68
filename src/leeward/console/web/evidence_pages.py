"""What a test failover has shown: a page to look at, print and file, and the picture itself."""

from __future__ import annotations

import hashlib
import time

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, viewer
from leeward.console.evidence_api import png
from leeward.console.web.parts import Parts


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    paint, service = parts.painter.page, parts.service

    @pages.get("/vms/{vm_id}/evidence/{run_id}", dependencies=viewer)
    def evidence(request: Request, vm_id: str, run_id: str) -> Response:
        test = service.evidence.one(vm_id, run_id)
        digest = hashlib.sha256(service.evidence.picture(vm_id, run_id)).hexdigest() if test.picture_bytes else ""
        return paint(request, "evidence.html", test=test, run=service.run(run_id), digest=digest, printed=time.time())

    @pages.get("/vms/{vm_id}/evidence/{run_id}/picture", dependencies=viewer)
    def evidence_picture(vm_id: str, run_id: str) -> Response:
        return png(service.evidence.picture(vm_id, run_id))

    return pages
