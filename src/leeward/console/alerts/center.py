"""All of alerting, put together: what a console that works starts, and what its pages and API ask."""

from __future__ import annotations

import time
from collections.abc import Callable

from leeward.console.alerts.alarm import Alarm
from leeward.console.alerts.couriers import Courier
from leeward.console.alerts.posting import Postman
from leeward.console.alerts.sealing import Sealer
from leeward.console.alerts.settings import MAIL, WEBHOOK, AlertSettings
from leeward.console.authority import Authority
from leeward.console.web.alert_letters import From
from leeward.console.web.watch import Moment
from leeward.state.alerts import AlertBook
from leeward.state.database import Database


class AlertCenter:
    """`start` once there are pictures, `stop` before the database is closed. may_act: does not return when this
    console is no longer the one that works. clock: UTC seconds."""

    def __init__(
        self,
        database: Database,
        authority: Authority,
        sender: From,
        may_act: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.book = AlertBook(database)
        self.settings = AlertSettings(database, Sealer(authority.derive("alerts")))
        self.postman = Postman(sender)
        self.clock = clock
        self.couriers = {
            name: Courier(name, self.book, self.settings, self.postman.send, may_act, clock)
            for name in (MAIL, WEBHOOK)
        }
        self._alarm: Alarm | None = None

    def alarm(self, picture: Callable[[], Moment | None], tick: Callable[[], float] = time.monotonic) -> Alarm:
        return Alarm(self.book, self.settings, picture, self.clock, tick)

    def start(self, picture: Callable[[], Moment | None]) -> None:
        """picture: the newest picture of everything."""
        self._alarm = self.alarm(picture)
        self._alarm.start()
        for courier in self.couriers.values():
            courier.start()

    def stop(self) -> None:
        for courier in self.couriers.values():
            courier.stop()
        if self._alarm is not None:
            self._alarm.stop()
