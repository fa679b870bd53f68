"""Alerts: when something that is wrong is told of, when it is over, and when who is to hear of it. Pure.

What is wrong at one instant (`Trouble`) is found elsewhere. Here it has to be so for some time before it becomes an
alert, and not to be so for some time before the alert ends: a thing that comes and goes is told once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from leeward.domain.texts import clip

_LONGEST_KEY = 300


class AlertKind(StrEnum):
    """RPO: the actual RPO is above its target. PROTECTION: a VM is not being replicated, or its points cannot be
    relied on. VAULT_PLACE: the agent of a host cannot use the place of the vault that it was told. DRILL: no good
    test failover for too long; DRILL_DUE: by the schedule of a VM or plan; DRILL_FAILED: the last one that was run by
    it. RUN, PLAN: one has stalled and waits for a person."""

    RPO = "rpo"
    PROTECTION = "protection"
    HOST = "host"
    VAULT = "vault"
    VAULT_LOCKED = "vault-locked"
    VAULT_FULL = "vault-full"
    VAULT_DAMAGED = "vault-damaged"
    VAULT_PLACE = "vault-place"
    DRILL = "drill"
    DRILL_DUE = "drill-due"
    DRILL_FAILED = "drill-failed"
    RUN = "run"
    PLAN = "plan"


class Severity(StrEnum):
    CRITICAL = "critical"
    WARNING = "warning"


SEVERITIES: Mapping[AlertKind, Severity] = {
    AlertKind.RPO: Severity.WARNING,
    AlertKind.PROTECTION: Severity.CRITICAL,
    AlertKind.HOST: Severity.CRITICAL,
    AlertKind.VAULT: Severity.CRITICAL,
    AlertKind.VAULT_LOCKED: Severity.CRITICAL,
    AlertKind.VAULT_FULL: Severity.WARNING,
    AlertKind.VAULT_DAMAGED: Severity.CRITICAL,
    AlertKind.VAULT_PLACE: Severity.CRITICAL,
    AlertKind.DRILL: Severity.WARNING,
    AlertKind.DRILL_DUE: Severity.WARNING,
    AlertKind.DRILL_FAILED: Severity.CRITICAL,
    AlertKind.RUN: Severity.CRITICAL,
    AlertKind.PLAN: Severity.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong now. subject: a VM's or run's id, what a drill is of (`drills.plan_of`), a host's name,
    "" for the vault. name: of it, for people. host: where that is, "" where it does not matter. detail: in English,
    as it was told. held_s: for how long it has certainly been so."""

    kind: AlertKind
    subject: str
    name: str
    detail: str = ""
    host: str = ""
    held_s: float = 0.0

    @property
    def key(self) -> str:
        return key_of(self.kind, self.subject)


def key_of(kind: AlertKind, subject: str) -> str:
    """What one alert is about. Of one key there is never more than one open: what is kept has to be found again by
    it, so it is one that every database can store."""
    return clip(f"{kind}:{subject}", _LONGEST_KEY)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. raise_s: how long something has to be so before it is an alert (kinds that are not named: at once).
    quiet_s: how long it must not be so before the alert ends."""

    raise_s: Mapping[AlertKind, float] = field(default_factory=dict)
    quiet_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Between two looks. begun, quiet: key → when something was first there, or first gone, on a clock that only goes
    forward."""

    begun: Mapping[str, float] = field(default_factory=dict)
    quiet: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """raised: (what, for how many seconds it has been so). going_on: what is open and still so. ended: keys."""

    raised: tuple[tuple[Trouble, float], ...]
    going_on: tuple[Trouble, ...]
    ended: tuple[str, ...]


def decide(
    open_keys: Collection[str],
    found: Sequence[Trouble],
    unknown: Collection[str],
    seen: Seen,
    patience: Patience,
    tick: float,
) -> tuple[Decision, Seen]:
    """What becomes of the alerts. unknown: keys of which nothing can be said now; their alerts stay as they are.
    tick: seconds of the clock that `seen` counts on."""
    there = {trouble.key: trouble for trouble in found}
    begun = {key: seen.begun.get(key, tick) for key in there}
    begun |= {key: since for key, since in seen.begun.items() if key in unknown and key not in begun}
    raised = []
    for key, trouble in there.items():
        held = max(tick - begun[key], trouble.held_s)
        if key not in open_keys and held >= patience.raise_s.get(trouble.kind, 0.0):
            raised.append((trouble, held))
    gone = [key for key in open_keys if key not in there and key not in unknown]
    quiet = {key: seen.quiet.get(key, tick) for key in gone}
    ended = tuple(key for key in gone if tick - quiet[key] >= patience.quiet_s)
    going_on = tuple(there[key] for key in open_keys if key in there)
    left = {key: since for key, since in quiet.items() if key not in ended}
    return Decision(tuple(raised), going_on, ended), Seen(begun, left)


# --- who hears of it, and when -------------------------------------------------------------------------------


class News(StrEnum):
    BEGUN = "begun"
    REMINDER = "reminder"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Telling:
    """What one channel has told of an alert. times: messages that said it is so; last: when the newest was sent.
    raised, ended, acknowledged: the alert's own. All in UTC seconds."""

    alert: int
    times: int
    last: float
    raised: float
    ended: float | None
    acknowledged: bool


def news(telling: Telling, now: float, remind_s: float) -> tuple[News, float] | None:
    """(what is to be told, since when), None for nothing. remind_s: 0 for no reminders. What ended before anybody
    could be told of it is told once, as ended."""
    if telling.ended is not None:
        return News.ENDED, telling.ended
    if telling.times == 0:
        return News.BEGUN, telling.raised
    if remind_s > 0 and not telling.acknowledged and now - telling.last >= remind_s:
        return News.REMINDER, telling.last + remind_s
    return None


# What comes at nearly the same time goes into one message: a dead host is followed by its VMs.
GATHER_S = 10.0
_FIRST_S, LONGEST_WAIT_S = 15.0, 3600.0


def ripe(since: Sequence[float], now: float) -> bool:
    """Whether a message is sent now. since: from when on each piece of news was due."""
    return bool(since) and now - min(since) >= GATHER_S


def again_after(tries: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(_FIRST_S * 2.0 ** max(0, min(tries, 20) - 1), LONGEST_WAIT_S)
