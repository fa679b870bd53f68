"""The audit log as a person reads it: words that programs get are said in the reader's language. Pure.

Names of users, VMs, hosts and addresses stay as they are, whatever words they are made of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from leeward.console.web import words
from leeward.console.web.acts import ACTS
from leeward.console.web.alert_words import KINDS as ALERTS
from leeward.console.web.phrases import N_, Phrase, Quote, phrase
from leeward.console.web.possible import LABELS, Act
from leeward.domain.alerts import AlertKind

Said = Phrase | Quote | str
_WHO = {"nobody": N_("nobody"), "local": N_("this machine's root"), "leeward": N_("Leeward itself")}
_NO_NAME = re.compile(r"no user's name, of length (\d+)")
_SIGNING = ("sign in", "login")
_DETAILS = {
    "deep": N_("deep"),
    "on": N_("switched on"),
    "off": N_("switched off"),
    "sent": N_("sent"),
    "here": N_("the console's own machine"),
    "agent": N_("a host with an agent"),
}
_POINT = re.compile(r"([a-z-]+), recovery point (\S+)")
_ROLE = re.compile(r"role (\w+)")
_TOKEN = re.compile(r"(.+), token (.+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """who, where, subject: names as they are (str), or words to be said. subject, detail: "" for none."""

    id: int
    time: str
    who: Said
    where: Said
    what: str
    subject: Said
    outcome: str
    detail: Said


def entry(row: Mapping[str, str | int]) -> Entry:
    """row: see `AuditLog.entries`."""
    text = {name: str(value) for name, value in row.items()}
    what = text["what"]
    return Entry(
        int(row["id"]),
        text["time"],
        _who(text["who"]),
        phrase(N_("this machine")) if text["address"] == "local" else text["address"],
        words.act(what),
        _subject(what, text["subject"]),
        text["outcome"],
        _detail(what, text["detail"]),
    )


def _who(who: str) -> Said:
    if who in _WHO:
        return phrase(_WHO[who])
    token = _TOKEN.fullmatch(who)
    return phrase(N_("{user}, token {token}"), user=token[1], token=token[2]) if token else who


def _subject(what: str, subject: str) -> Said:
    if what in _SIGNING and (typed := _NO_NAME.fullmatch(subject)):
        return phrase(N_("no user's name, of length {length}"), length=typed[1])
    if "alert" in what and subject in words.CHANNELS:
        return phrase(words.CHANNELS[subject])
    if what.startswith("acknowledge") and subject in set(AlertKind):
        return phrase(ALERTS[AlertKind(subject)])
    return subject


def _detail(what: str, detail: str) -> Said:
    if what == "carry out" and detail in set(Act):
        return phrase(LABELS[Act(detail)])
    if what == "ask plan" and f"{detail} plan" in ACTS:
        return phrase(ACTS[f"{detail} plan"])
    if detail in words.KINDS:
        return phrase(words.KINDS[detail])
    if detail in _DETAILS:
        return phrase(_DETAILS[detail])
    if (role := _ROLE.fullmatch(detail)) and role[1] in words.ROLES:
        return phrase(N_("role: {role}"), role=phrase(words.ROLES[role[1]]))
    if (point := _POINT.fullmatch(detail)) and point[1] in words.KINDS:
        newest = phrase(N_("the newest")) if point[2] == "latest" else point[2]
        return phrase(N_("{kind}, recovery point: {point}"), kind=phrase(words.KINDS[point[1]]), point=newest)
    return Quote(detail)
