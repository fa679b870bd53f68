"""`/metrics`: what Prometheus asks for, with a token of a viewer."""

from __future__ import annotations

import gzip
import time

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from leeward import __version__
from leeward.console.access import GuardedRoute, viewer
from leeward.console.agents import Agents
from leeward.console.alerts.center import AlertCenter
from leeward.console.alerts.settings import MAIL, WEBHOOK
from leeward.console.metrics import CONTENT_TYPE, Seen, exposition, samples
from leeward.console.web.watch import Watch
from leeward.state.database import Database

# A picture of this age is taken as it is; it is not taken anew for each scrape.
_FRESH_S = 20.0


class Metrics:
    """console: what this console is called. Keeps nothing between two scrapes."""

    def __init__(self, watch: Watch, database: Database, agents: Agents, alerts: AlertCenter, console: str) -> None:
        self._watch, self._database, self._agents, self._alerts = watch, database, agents, alerts
        self._console = console
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def text(self) -> bytes:
        moment = self._watch.glance()
        if moment is None or not 0 <= time.time() - moment.taken < _FRESH_S:
            moment = self._watch.look()
        channels = [self._alerts.settings.channel(name) for name in (MAIL, WEBHOOK)]
        seen = Seen(
            version=__version__,
            console=self._console,
            agents=self._agents.presence(),
            runs=self._database.runs.counts(),
            alerts=self._alerts.book.open_counts(),
            failing={one.name: one.failed is not None for one in channels if one and one.settings.enabled},
        )
        return exposition(samples(moment, seen)).encode() + generate_latest(self._process)


def build_router(metrics: Metrics) -> APIRouter:
    router = APIRouter(route_class=GuardedRoute)

    @router.get("/metrics", dependencies=viewer)
    def prometheus_metrics(request: Request) -> Response:
        text = metrics.text()
        headers = {"Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            # No secret is in it that could be guessed by its length.
            text, headers = gzip.compress(text, 1), headers | {"Content-Encoding": "gzip"}
        return Response(text, headers=headers, media_type=CONTENT_TYPE)

    return router
