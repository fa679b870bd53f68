"""Couriers: each brings what is due through one channel, in a thread of its own, until it has got through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from leeward.console.alerts.mail import PartlySent
from leeward.console.alerts.settings import AlertSettings, Channel, Rules
from leeward.domain.alerts import LONGEST_WAIT_S, News, again_after, news, ripe
from leeward.domain.errors import LeewardError
from leeward.logs import log
from leeward.state.alerts import Alert, AlertBook

_LOOK_S = 2.0
_STOP_S = 3.0


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of news. number: how many times this was said before."""

    news: News
    alert: Alert
    number: int

    @property
    def id(self) -> str:
        """The same whenever this very piece is sent: who receives it twice can tell."""
        return f"{self.alert.id}-{self.news}" + (f"-{self.number}" if self.news is News.REMINDER else "")


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes into one message. time: when it was put together, UTC seconds."""

    pieces: tuple[Piece, ...]
    rules: Rules
    time: float


# Brings a batch through a channel; the secret is the channel's. Raises LeewardError.
Send = Callable[[Channel, str, Batch], None]


class Courier:
    """may_act: does not return when this console is no longer the one that works. clock: UTC seconds."""

    def __init__(
        self,
        name: str,
        book: AlertBook,
        settings: AlertSettings,
        send: Send,
        may_act: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name, self._book, self._settings, self._send = name, book, settings, send
        self._may_act, self._clock = may_act, clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"alerts by {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits a little for a message that is just being sent, not for a server that hangs: what was not noted as
        told is told again."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _work(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            try:
                self.step()
            except LeewardError as error:
                log.warning("alerts cannot be told", channel=self._name, error=str(error))
            except Exception:  # a bug here must not keep alerts from being told for ever
                log.exception("telling alerts failed", channel=self._name)

    def step(self) -> bool:
        """Whether a message was sent."""
        channel = self._settings.channel(self._name)
        now = self._clock()
        if channel is None or not channel.settings.enabled:
            return False
        # What lies further ahead was written before the clock was set right: nobody waits for that.
        if now < channel.again <= now + 2 * LONGEST_WAIT_S:
            return False
        batch = self._due(now)
        if batch is None:
            return False
        self._may_act()
        # What could not be noted as told would be sent at every look: this write fails before anything is sent.
        self._book.trying(self._name, channel.tries + 1, now + again_after(channel.tries + 1))
        trouble = ""
        try:
            self._send(channel, self._settings.secret(self._name), batch)
        except PartlySent as error:
            trouble = error.message
        except LeewardError as error:
            self._note_failure(channel, error.message)
            return False
        except Exception as error:  # of a library, in a case that nobody has thought of
            log.exception("an alert could not be sent", channel=self._name)
            self._note_failure(channel, f"an error inside Leeward ({type(error).__name__})")
            return False
        begun = [piece.alert.id for piece in batch.pieces if piece.news is not News.ENDED]
        ended = [piece.alert.id for piece in batch.pieces if piece.news is News.ENDED]
        self._book.told(self._name, begun, ended, self._clock())
        if trouble:
            self._note_failure(channel, trouble)
        return True

    def _note_failure(self, channel: Channel, error: str) -> None:
        now = self._clock()
        log.warning("an alert could not be sent", channel=self._name, error=error)
        self._book.failed(self._name, error, now + again_after(channel.tries + 1), now)

    def _due(self, now: float) -> Batch | None:
        rules = self._settings.rules()
        pieces, since = [], []
        for telling, alert in self._book.tellings(self._name):
            found = news(telling, now, rules.remind_s)
            if found is not None:
                pieces.append(Piece(found[0], alert, telling.times))
                since.append(found[1])
        return Batch(tuple(pieces), rules, now) if ripe(since, now) else None
