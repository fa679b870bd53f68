"""The trail: every change that somebody asks for goes into the audit log, before it is made and after."""

from __future__ import annotations

from leeward.console.actor import Actor
from leeward.console.limiter import Limiter, Rule
from leeward.domain.errors import LeewardError
from leeward.logs import log
from leeward.state.audit import AuditLog

# Who has no account could else fill the disk: so many refusals are noted at once, then one every so many seconds.
_STRANGERS = Rule(burst=60, period_s=10.0)


class Trail:
    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._strangers = Limiter([_STRANGERS], slots=1)
        self._unwritten = 0

    def begin(self, actor: Actor, what: str, subject: str) -> int:
        """Before the change. When this fails the change must not be made: nothing happens unseen."""
        return self._audit.add(who=actor.who, address=actor.address, what=what, subject=subject)

    def end(self, number: int, status: int, subject: str, detail: str) -> None:
        """The change is made or not, whatever happens here: a row that cannot be ended stays "begun"."""
        try:
            self._audit.end(number, outcome=outcome(status), status=status, subject=subject, detail=detail)
        except LeewardError as error:
            log.warning("the audit log cannot be written", number=number, error=str(error))

    def stranger(self, actor: Actor, what: str, status: int, subject: str, detail: str) -> None:
        """What somebody without an account tried. Successes are noted always (set-up, signing in)."""
        refused = status >= 400
        if refused and self._strangers.take(""):
            self._unwritten += 1
            return
        if refused and self._unwritten:
            more = f"before it, {self._unwritten} more were refused"
            detail = f"{detail} ({more})"
            self._unwritten = 0
        try:
            self._audit.add(
                who=actor.who,
                address=actor.address,
                what=what,
                subject=subject,
                outcome=outcome(status),
                status=status,
                detail=detail,
            )
        except LeewardError as error:
            log.warning("the audit log cannot be written", what=what, error=str(error))


def outcome(status: int) -> str:
    if status < 400:
        return "done"
    return "refused" if status < 500 else "failed"
