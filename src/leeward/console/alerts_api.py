"""The HTTP API of alerts. It only translates."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from leeward.console.access import GuardedRoute, about, operator, viewer
from leeward.console.alerts.center import AlertCenter
from leeward.console.web.alert_words import best, said
from leeward.console.web.language import language_named
from leeward.domain.alerts import AlertKind, Severity
from leeward.state.alerts import Alert
from leeward.state.clock import stamp
from leeward.state.database import acting
from leeward.state.tables import TOO_LARGE_ID


class Which(StrEnum):
    OPEN = "open"
    PAST = "past"
    ALL = "all"


PAST = {Which.OPEN: False, Which.PAST: True, Which.ALL: None}


class AlertView(BaseModel):
    """text: what is wrong, in English. subject: id of the VM or run, name of the host. began: since when it was so;
    raised: when it became an alert; seen: when it was last looked at and still so. page: of the console."""

    id: int
    kind: AlertKind
    severity: Severity
    state: Literal["open", "acknowledged", "ended"]
    text: str
    detail: str
    subject: str
    name: str
    host: str
    began: str
    raised: str
    seen: str
    ended: str | None
    acknowledged: str | None
    acknowledged_by: str
    page: str


def build_router(center: AlertCenter) -> APIRouter:
    router = APIRouter(prefix="/api/v1", route_class=GuardedRoute)

    @router.get("/alerts", dependencies=viewer)
    def alerts(
        state: Which = Which.OPEN,
        kind: AlertKind | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
        before: Annotated[int | None, Query(ge=1, lt=TOO_LARGE_ID)] = None,
    ) -> list[AlertView]:
        drill_s = center.settings.rules().limits.drill_s
        found = center.book.find(past=PAST[state], kind=kind, before=before, limit=limit)
        return [view_of(alert, drill_s) for alert in found]

    @router.post("/alerts/{number}/acknowledge", dependencies=operator)
    def acknowledge_alert(request: Request, number: Annotated[int, Path(ge=1, lt=TOO_LARGE_ID)]) -> AlertView:
        alert = center.book.acknowledge(number, acting.get(), center.clock())
        view = view_of(alert, center.settings.rules().limits.drill_s)
        about(request, alert.name or alert.kind, view.text)
        return view

    return router


def view_of(alert: Alert, drill_s: float) -> AlertView:
    def when(moment: float | None) -> str | None:
        return stamp(moment) if moment is not None else None

    return AlertView.model_validate(
        {
            "id": alert.id,
            "kind": alert.kind,
            "severity": alert.severity,
            "state": alert.state,
            "text": language_named("en").say(said(alert.kind, alert.name, drill_s)),
            "detail": alert.detail,
            "subject": alert.subject,
            "name": alert.name,
            "host": alert.host,
            "began": when(alert.began),
            "raised": when(alert.raised),
            "seen": when(alert.seen),
            "ended": when(alert.ended),
            "acknowledged": when(alert.acknowledged),
            "acknowledged_by": alert.acknowledged_by,
            "page": best(alert.kind, alert.subject, alert.name),
        }
    )
