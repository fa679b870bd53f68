"""The agent's line to a console far away: facts out, orders in. The agent works on whether there is a line or not."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import ValidationError

from leeward import __version__
from leeward.agent.channel import CONNECT_S, Channel, CutOff, Refusal
from leeward.agent.consoles import Consoles, addresses
from leeward.agent.enrolment import answers_others, note_consoles, renew
from leeward.agent.facts import Facts
from leeward.agent.identity import Identity, identity_stamp, load_identity, tls_context
from leeward.agent.link_status import LinkState, LinkStatus
from leeward.agent.place_look import PlaceLook
from leeward.domain.errors import LeewardError, Unavailable
from leeward.logs import log
from leeward.state.vault_place import PlaceFile
from leeward.vault.place import Place
from leeward.wire.jobs import Job, JobReport
from leeward.wire.messages import WIRE_VERSION, AgentReport, DesiredState, HostReport, Message
from leeward.wire.polls import HOLD_S, Orders, Poll, Told

_LOOK_S = 0.2
_LOOK_AT_HOSTS_S = 1.0
_LOOK_AT_PLACE_S = 1.0
_TELL_TIMEOUT_S = 15.0
# The console holds a poll for so long, and then has to be quick.
_ANSWER_S = 15.0
_RETRY_S = (0.5, 5.0)
# Where there is another console to turn to, one that is frozen must be noticed by when its seat has run out.
_SEVERAL_HOLD_S, _SEVERAL_ANSWER_S, _SEVERAL_CONNECT_S, _SEVERAL_RETRY_S = 8.0, 6.0, 4.0, 2.0
_NEXT_S = 0.1
# Who was refused asks rarely: a person has to do something first.
_REFUSED_S = 20.0
_STUMBLED_S = 2.0
_M = TypeVar("_M", bound=Message)


class Local(Protocol):
    """The agent on this host, as the line needs it. Thread-safe; what a method changes is durable when it returns."""

    def report(self) -> AgentReport: ...
    def hosts(self) -> list[HostReport]: ...
    def apply(self, desired: DesiredState) -> None: ...
    def submit(self, job: Job) -> None: ...
    def jobs(self) -> Sequence[JobReport]:
        """All that it has not let go of."""

    def release(self, job_id: str) -> None: ...


class AgentClient:
    """state_dir: holds the identity, and gets the line's status. Works from `start` to `stop` in its own threads."""

    def __init__(
        self, state_dir: Path, local: Local, console: str = "", hold_s: float = HOLD_S, place: PlaceFile | None = None
    ) -> None:
        """console: an address (or several, with commas) that counts more than those it was told, "" for none.

        place: where the vault's place is kept as the console tells it; None: our own configuration says where it is.
        """
        self._state_dir = state_dir
        self._local = local
        self._console = console
        self._hold_s = hold_s
        self._place = place
        self._place_look = PlaceLook(place, state_dir) if place is not None else None
        self._facts = Facts(secrets.token_hex(8), __version__)
        self._status = LinkStatus(state_dir)
        self._stop = threading.Event()
        self._poked = threading.Event()
        self._let_go: set[str] = set()
        self._stamp = (0, 0)
        self._identity: Identity | None = None
        self._consoles = Consoles()
        self._poll_channel: Channel | None = None
        self._tell_channel: Channel | None = None
        works: dict[str, Callable[[], None]] = {"poll": self._poll, "tell": self._tell, "hosts": self._look_at_hosts}
        if self._place_look is not None:
            works["place"] = partial(self._look_at_place, self._place_look)
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in works.items()
        ]

    def start(self) -> None:
        self._status.show(self._console, LinkState.CONNECTING, "")
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._poked.set()
        for channel in (self._poll_channel, self._tell_channel):
            if channel is not None:
                channel.interrupt()
        for thread in self._threads:
            thread.join(5)

    def poke(self) -> None:
        """Something has changed: look now and not in a moment. From any thread."""
        self._poked.set()

    def _guarded(self, work: Callable[[], None]) -> None:
        """A bug in one round must not end the line: the console would never hear of this host again."""
        while not self._stop.is_set():
            try:
                work()
            except Exception as error:
                log.exception("the line to the console stumbled")
                self._show(LinkState.UNAVAILABLE, f"internal error: {error!r}")
                self._stop.wait(_STUMBLED_S)

    def _show(self, state: LinkState, reason: str) -> None:
        self._status.show(self._consoles.current or self._console, state, reason)

    # --- orders -------------------------------------------------------------------------------------

    def _poll(self) -> None:
        """Ask, do, ask again, one after the other: see `wire.polls` for why an answer is carried out first."""
        failures = 0
        while not self._stop.is_set():
            try:
                self._use_new_identity()
                channel = self._poll_channel
                if channel is None:
                    self._show(LinkState.UNENROLLED, "this host is not enrolled with a console")
                    self._wait_for_new_identity(_REFUSED_S)
                    continue
                self._ask_and_do(channel)
                failures = 0
            except Refusal as error:
                if self._turn_away(LinkState.REFUSED, error):
                    self._wait_for_new_identity(_REFUSED_S * random.uniform(0.8, 1.2))
            except LeewardError as error:
                # Bad lines cut as well: only after several in a row it is our certificate, and not for long.
                if isinstance(error, CutOff) and failures > 1 and self._is_not_taken():
                    if self._turn_away(LinkState.REFUSED, _not_taken(error)):
                        self._wait_for_new_identity(_RETRY_S[1])
                elif self._turn_away(LinkState.UNAVAILABLE, error):
                    failures += 1
                    self._stop.wait(self._pause_s(failures) * random.uniform(0.5, 1.0))

    def _turn_away(self, state: LinkState, error: LeewardError) -> bool:
        """From a console that has failed us to the next. True: each has by now; time to wait, and to tell."""
        self._show(state, str(error))
        before, over = self._consoles.current, self._consoles.failed()
        if over and self._status.news() and not self._stop.is_set():
            log.warning("no line to the console; replication goes on", state=state, reason=str(error))
        if self._consoles.current != before and self._identity is not None:
            tell = self._tell_channel
            self._connect(self._identity)
            if tell is not None:
                tell.interrupt()  # what it is saying to a frozen console must not wait for an answer
        if not over:
            self._stop.wait(_NEXT_S)
        return over

    def _pause_s(self, failures: int) -> float:
        longest = _SEVERAL_RETRY_S if self._consoles.several else _RETRY_S[1]
        return min(_RETRY_S[0] * float(1 << min(failures - 1, 10)), longest)

    def _ask_and_do(self, channel: Channel) -> None:
        asked, question = time.monotonic(), self._question()
        patience = question.wait_s + (_SEVERAL_ANSWER_S if self._consoles.several else _ANSWER_S)
        orders = self._ask(channel, "/agent/poll", question, Orders, patience)
        self._consoles.answered()
        self._show(LinkState.CONNECTED, "")
        self._status.news()
        self._carry_out(channel, orders)
        # A console that is being closed answers every poll at once: do not storm it.
        if orders.empty and question.wait_s and time.monotonic() - asked < min(1.0, question.wait_s):
            self._stop.wait(1.0)

    def _question(self) -> Poll:
        held = [report.id for report in self._local.jobs()]
        # A job that was let go of while under way is still there until it has ended; that is no news.
        self._let_go &= set(held)
        hold_s = min(self._hold_s, _SEVERAL_HOLD_S) if self._consoles.several else self._hold_s
        return Poll(
            run=self._facts.run,
            # A line that was down shows at once that it is up again, and only then waits for news.
            wait_s=hold_s if self._status.state is LinkState.CONNECTED else 0,
            generation=self._local.report().generation,
            held=tuple(job_id for job_id in held if job_id not in self._let_go),
            numbers=self._facts.numbers(),
            consoles=self._identity.consoles if self._identity else (),
            place=self._held_place(),
        )

    def _held_place(self) -> int | None:
        if self._place is None:
            return None
        held = self._place.readable()
        return held.revision if held else 0

    def _carry_out(self, channel: Channel, orders: Orders) -> None:
        """Raises LeewardError when something cannot be done now; it is asked for again."""
        if orders.want:
            self._facts.wanted(orders.want)
        told = orders.place
        # Newer ones may have come on this machine while the console answered.
        if told is not None and self._place is not None and told.revision > (self._held_place() or 0):
            self._place.save(Place(told.url, told.options, told.revision))
            log.info("the vault's place was told", vault=told.url)
        for job_id in orders.releases:
            self._local.release(job_id)
            self._let_go.add(job_id)
        for job in orders.jobs:
            self._local.submit(job)
        if orders.desired is not None:
            self._local.apply(orders.desired)
        if not orders.empty:
            self._poked.set()
        if orders.consoles and self._identity is not None:
            self._identity = note_consoles(self._state_dir, self._identity, orders.consoles)
            self._look_for(self._identity)
            log.info("consoles were told", addresses=orders.consoles)
        if orders.renew and self._identity is not None:
            self._be(renew(self._state_dir, self._identity, channel))
            log.info("the certificate was renewed")

    # --- who we are ---------------------------------------------------------------------------------

    def _use_new_identity(self) -> bool:
        """Another process may have enrolled this host, for the first time or anew. Raises BadInput."""
        stamp = identity_stamp(self._state_dir)
        if stamp in (self._stamp, (0, 0)):
            return False
        found = load_identity(self._state_dir)
        self._stamp = stamp
        if found == self._identity:
            return False
        self._be(found)
        return True

    def _is_not_taken(self) -> bool:
        """Whether our console answers, only not to us."""
        identity = self._identity
        return identity is not None and answers_others(self._consoles.current, identity.authority)

    def _wait_for_new_identity(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not self._stop.wait(0.5):
            try:
                if self._use_new_identity():
                    return
            except LeewardError as error:  # half written by somebody else, or damaged: tell it and look again
                self._show(LinkState.REFUSED, str(error))
                if self._status.news():
                    log.warning("this host's identity cannot be used", reason=str(error))

    def _be(self, identity: Identity) -> None:
        """Both lines begin anew; what the tell line is just saying goes out on the old one."""
        self._identity = identity
        self._look_for(identity)
        self._connect(identity)

    def _look_for(self, identity: Identity) -> None:
        self._consoles.use(addresses(self._console, identity.consoles, identity.console))

    def _connect(self, identity: Identity) -> None:
        if self._poll_channel is not None:
            self._poll_channel.close()
        address, connect_s = self._consoles.current, _SEVERAL_CONNECT_S if self._consoles.several else CONNECT_S
        self._poll_channel = Channel(address, lambda: tls_context(identity), connect_s)
        self._tell_channel = Channel(address, lambda: tls_context(identity), connect_s)
        if self._stop.is_set():
            self._poll_channel.interrupt()
            self._tell_channel.interrupt()

    # --- facts --------------------------------------------------------------------------------------

    def _tell(self) -> None:
        channel: Channel | None = None
        while not self._stop.is_set():
            self._poked.wait(_LOOK_S)
            self._poked.clear()
            connected = self._status.state is LinkState.CONNECTED
            if channel is not None and (self._tell_channel is not channel or not connected):
                channel.close()  # an open line would say that we are heard
            channel = self._tell_channel
            report = self._local.report()
            if self._place_look is not None:
                report = report.model_copy(update={"place": self._place_look.trouble})
            self._facts.saw(report, self._local.jobs(), time.monotonic())
            self._status.note(report)
            if channel is None or not connected or not self._facts.due(time.monotonic()):
                continue
            try:
                self._say(channel)
            except LeewardError as error:
                # The poll line finds out what is wrong, and when it is over.
                log.debug("facts could not be told", error=str(error))
                self._stop.wait(_RETRY_S[0] * random.uniform(0.5, 1.5))
        if channel is not None:
            channel.close()

    def _say(self, channel: Channel) -> None:
        message = self._facts.tell()
        told = self._ask(channel, "/agent/tell", message, Told, _TELL_TIMEOUT_S)
        self._facts.told(message, time.monotonic())
        if told.want:
            self._facts.wanted(told.want)
            self._poked.set()

    def _look_at_hosts(self) -> None:
        """In a thread of its own: a hypervisor that hangs must not silence the rest."""
        while not self._stop.is_set():
            self._facts.saw_hosts(self._local.hosts())
            self._stop.wait(_LOOK_AT_HOSTS_S)

    def _look_at_place(self, place: PlaceLook) -> None:
        """In a thread of its own: a store may be silent for long."""
        while not self._stop.is_set():
            place.look(time.monotonic())
            self._stop.wait(_LOOK_AT_PLACE_S)

    def _ask(self, channel: Channel, path: str, message: Message, kind: type[_M], timeout_s: float) -> _M:
        answer = channel.ask("POST", path, message.model_dump_json().encode(), timeout_s)
        try:
            return kind.model_validate_json(answer)
        except ValidationError as error:
            raise Unavailable(
                f"the console's answer cannot be read: {error.errors()[0]['msg']} (we speak version {WIRE_VERSION})"
            ) from None


def _not_taken(error: LeewardError) -> Refusal:
    return Refusal(
        "the console does not take this host's certificate: it is not of the console's authority",
        subject=error.subject,
        hint="Enrol this host again with a new token",
    )
