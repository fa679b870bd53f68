"""Scans for hosts over HTTP. It only translates.

`docs/cli.md` documents the shapes; `leeward host scan --json` prints the same.
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from leeward.console.access import GuardedRoute, operator, viewer
from leeward.domain.errors import LeewardError
from leeward.network.discovery.pace import DEFAULT, Pace
from leeward.network.discovery.scans import Finding, Look, Scans, State


class PortView(BaseModel):
    """An open port. speaks: nothing, other, ssh, libvirt, tls, http or winrm."""

    port: int
    speaks: str
    words: str
    certificate: str


class FindingView(BaseModel):
    """supported: null when that shows only after sign-in."""

    address: str
    name: str
    kind: str
    what: str
    supported: bool | None
    reason: str
    next: str
    ports: list[PortView]


class ErrorView(BaseModel):
    code: str
    message: str
    subject: str
    hint: str
    exit_code: int


class ScanSummary(BaseModel):
    """total and done: ports × addresses. alive: addresses where anything answered. found: those with an open port."""

    id: str
    ranges: list[str]
    state: State
    started: str
    seconds: float
    addresses: int
    total: int
    done: int
    alive: int
    found: int
    error: ErrorView | None


class ScanView(ScanSummary):
    findings: list[FindingView]


class ScanRequest(BaseModel):
    """Only ranges must be given."""

    ranges: list[str] = Field(min_length=1, max_length=4096)
    timeout_s: float = DEFAULT.connect_s
    rate: float = DEFAULT.rate
    names: bool = True


def build_router(scans: Scans) -> APIRouter:
    router = APIRouter(prefix="/api/v1/scans", tags=["scans"], route_class=GuardedRoute)

    @router.post("", status_code=202, dependencies=operator)
    def start(request: ScanRequest) -> ScanView:
        pace = Pace(connect_s=request.timeout_s, rate=request.rate)
        return scan_view(scans.look(scans.start(request.ranges, pace, names=request.names)))

    @router.get("", dependencies=viewer)
    def recent() -> list[ScanSummary]:
        return [_summary(look) for look in scans.all()]

    @router.get("/{scan_id}", dependencies=viewer)
    def look(scan_id: str) -> ScanView:
        return scan_view(scans.look(scan_id))

    @router.delete("/{scan_id}", dependencies=operator)
    def cancel(scan_id: str) -> ScanView:
        return scan_view(scans.cancel(scan_id))

    return router


def scan_view(look: Look) -> ScanView:
    return ScanView(**_summary(look).model_dump(), findings=[_finding(finding) for finding in look.findings])


def _summary(look: Look) -> ScanSummary:
    return ScanSummary(
        id=look.id,
        ranges=list(look.ranges),
        state=look.state,
        started=look.started.isoformat().replace("+00:00", "Z"),
        seconds=round(look.seconds, 3),
        addresses=look.addresses,
        total=look.total,
        done=look.done,
        alive=look.alive,
        found=len(look.findings),
        error=_error(look.error),
    )


def _finding(finding: Finding) -> FindingView:
    verdict = finding.verdict
    return FindingView(
        address=str(finding.address),
        name=finding.name,
        kind=verdict.kind,
        what=verdict.what,
        supported=verdict.supported,
        reason=verdict.reason,
        next=verdict.next_step,
        ports=[
            PortView(port=sign.door.port, speaks=sign.speech, words=sign.words, certificate=sign.certificate)
            for sign in finding.signs
        ],
    )


def _error(error: LeewardError | None) -> ErrorView | None:
    return ErrorView(**error.as_dict(), exit_code=error.exit_code) if error is not None else None
