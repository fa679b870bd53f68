"""The HTTP API of what test failovers have shown. It only translates."""

from __future__ import annotations

from fastapi import FastAPI, Response

from leeward.console.access import viewer
from leeward.console.service import Service
from leeward.console.views import EvidenceView


def add_evidence_api(app: FastAPI, service: Service) -> None:
    @app.get("/api/v1/vms/{vm}/evidence", dependencies=viewer)
    def evidence(vm: str) -> list[EvidenceView]:
        return service.evidence.of(service.vm_id(vm))

    @app.get("/api/v1/vms/{vm}/evidence/{run}", dependencies=viewer)
    def one_evidence(vm: str, run: str) -> EvidenceView:
        return service.evidence.one(service.vm_id(vm), run)

    @app.get("/api/v1/vms/{vm}/evidence/{run}/picture", dependencies=viewer, response_class=Response)
    def evidence_picture(vm: str, run: str) -> Response:
        return png(service.evidence.picture(service.vm_id(vm), run))


def png(picture: bytes) -> Response:
    """Of somebody's screen: for whoever asked, and nobody's cache."""
    return Response(picture, media_type="image/png", headers={"Cache-Control": "no-store"})
