"""What alerts say in a mail: plain text, in the language that is set. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from leeward.console.alerts.couriers import Batch, Piece
from leeward.console.alerts.settings import Rules
from leeward.console.web.alert_words import BEST, SEVERITIES, best, said
from leeward.console.web.language import Language, language_named, zone_named
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.domain.alerts import News

# Nobody reads more; the page has them all.
_MOST = 40
_HEADS = {
    News.BEGUN: N_("This has begun:"),
    News.REMINDER: N_("This goes on:"),
    News.ENDED: N_("This is over:"),
}
_AGAIN = {News.REMINDER: N_("Still: {what}"), News.ENDED: N_("Over: {what}")}
_COUNTS = {
    News.BEGUN: N_("{count} begun"),
    News.REMINDER: N_("{count} going on"),
    News.ENDED: N_("{count} over"),
}


@dataclass(frozen=True, slots=True)
class Letter:
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class From:
    """Which console writes. address: where people reach it, https://…, "" when that is not known."""

    name: str
    address: str


def letter(batch: Batch, sender: From) -> Letter:
    language = language_named(batch.rules.language)
    parts = []
    for news, head in _HEADS.items():
        pieces = [piece for piece in batch.pieces if piece.news is news]
        if pieces:
            parts.append("\n".join([language.say(head), *_section(language, batch.rules, pieces, sender)]))
    return Letter(_subject(language, batch), "\n\n".join([*parts, *_foot(language, sender)]) + "\n")


def test_letter(rules: Rules, sender: From) -> Letter:
    language = language_named(rules.language)
    text = language.say(N_("This is a test. Alerts of this console arrive here."))
    subject = language.say(N_("Test message"))
    return Letter(f"Leeward: {subject}", "\n\n".join([text, *_foot(language, sender)]) + "\n")


def _subject(language: Language, batch: Batch) -> str:
    if len(batch.pieces) == 1:
        (piece,) = batch.pieces
        what = language.say(said(piece.alert.kind, piece.alert.name, batch.rules.limits.drill_s))
        told = language.say(phrase(_AGAIN[piece.news], what=what)) if piece.news in _AGAIN else what
    else:
        counts = {news: sum(piece.news is news for piece in batch.pieces) for news in News}
        each = [language.say(phrase(_COUNTS[news], count=count)) for news, count in counts.items() if count]
        told = language.say(phrase(N_("Alerts: {counts}"), counts=", ".join(each)))
    return f"Leeward: {told}"


def _section(language: Language, rules: Rules, pieces: Sequence[Piece], sender: From) -> Iterator[str]:
    for piece in pieces[:_MOST]:
        yield ""
        yield from _piece(language, rules, piece, sender)
    if len(pieces) > _MOST:
        yield ""
        yield language.say(phrase(N_("… and {count} more."), count=len(pieces) - _MOST))


def _piece(language: Language, rules: Rules, piece: Piece, sender: From) -> Iterator[str]:
    alert = piece.alert
    severity, text = SEVERITIES[alert.severity], said(alert.kind, alert.name, rules.limits.drill_s)
    yield f"* {language.say(severity)}: {language.say(text)}"
    if alert.detail and piece.news is not News.ENDED:
        yield f"  {language.told(alert.detail)}"
    if alert.host:
        host = language.say(phrase(N_("Host: {host}"), host=alert.host))
        yield f"  {host}"
    yield f"  {language.say(_times(language, rules, piece))}"
    if piece.news is not News.ENDED:
        yield f"  {language.say(BEST[alert.kind].advice)}"
        if sender.address:
            yield f"  {sender.address}{best(alert.kind, alert.subject, alert.name)}"


def _times(language: Language, rules: Rules, piece: Piece) -> Phrase:
    alert, zone = piece.alert, zone_named(rules.zone)
    began = f"{language.when(alert.began, zone)} ({rules.zone})"
    if piece.news is not News.ENDED or alert.ended is None:
        return phrase(N_("Since: {time}"), time=began)
    ended, took = language.when(alert.ended, zone), language.span(alert.ended - alert.began)
    return phrase(N_("From {began} until {ended}: {took}"), began=began, ended=ended, took=took)


def _foot(language: Language, sender: From) -> Iterator[str]:
    lines = ["-- ", language.say(phrase(N_("Sent by the Leeward console {name}."), name=sender.name))]
    if sender.address:
        title = language.say(N_("All alerts:"))
        lines.append(f"{title} {sender.address}/alerts")
    yield "\n".join(lines)
