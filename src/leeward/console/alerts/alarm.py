"""The alarm: looks at what is wrong, again and again, and writes down what has become an alert and what is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from leeward.console.alerts.settings import AlertSettings
from leeward.console.troubles import troubles
from leeward.console.web.watch import Moment
from leeward.domain.alerts import Seen, decide
from leeward.domain.errors import LeewardError
from leeward.logs import log
from leeward.state.alerts import AlertBook

_LOOK_S = 3.0
# A picture that is older tells nothing any more: the database may be away.
_STALE_S = 60.0
# When everything fails at once, the log need not name each: the alerts do.
_LOGGED = 20


class Alarm:
    """picture: the newest picture of everything, None while there is none. tick: a clock that only goes forward."""

    def __init__(
        self,
        book: AlertBook,
        settings: AlertSettings,
        picture: Callable[[], Moment | None],
        clock: Callable[[], float] = time.time,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book, self._settings, self._picture = book, settings, picture
        self._clock, self._tick = clock, tick
        self._seen = Seen()
        self._number = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="alarm", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _work(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            try:
                self.look()
            except LeewardError as error:
                log.warning("alerts cannot be looked for", error=str(error))
            except Exception:  # a bug here must not end the alarm for good
                log.exception("looking for alerts failed")

    def look(self) -> None:
        moment = self._picture()
        now = self._clock()
        if moment is None or moment.number == self._number or now - moment.taken > _STALE_S:
            return
        self._number = moment.number
        known = self._book.open_keys()
        wrong = troubles(moment, known)
        patience = self._settings.rules().patience
        decision, seen = decide(known, wrong.found, wrong.unknown, self._seen, patience, self._tick())
        if decision.raised or decision.ended or self._book.note_due(now):
            self._book.apply(decision, now)
        self._seen = seen
        for trouble, _ in decision.raised[:_LOGGED]:
            log.warning("alert", kind=trouble.kind.value, name=trouble.name, detail=trouble.detail)
