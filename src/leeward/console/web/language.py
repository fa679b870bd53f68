"""The reader's language: texts out of the catalogues, and numbers, sizes, spans and times as they are written there.

Catalogues are kept as .po files and compiled in memory when the console starts: no build step, and one home for each
text. English needs none, since the texts in the code are English.
"""

from __future__ import annotations

import gettext
import io
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from functools import cached_property, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale
from babel.core import UnknownLocaleError
from babel.dates import format_date, format_datetime, format_skeleton, format_time
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from babel.units import format_unit

from leeward.console.web.phrases import Phrase, Quote
from leeward.console.web.told import Beginning, Told, patterns_in, whole_in

LANGUAGES = {"en": "English", "ja": "日本語"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SPANS = ((86_400.0, "duration-day"), (3600.0, "duration-hour"), (60.0, "duration-minute"))


class Language:
    """code: one of LANGUAGES."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.locale = Locale.parse(code)
        self.catalogue, patterns = _catalogue(code)
        self._told = Told(self.gettext, patterns)

    def gettext(self, text: str) -> str:
        # The catalogue's own header stands under the empty text.
        return self.catalogue.gettext(text) if text else ""

    def ngettext(self, one: str, many: str, count: int) -> str:
        return self.catalogue.ngettext(one, many, count)

    def say(self, what: Phrase | Quote | str) -> str:
        if isinstance(what, str):
            return self.gettext(what)
        if isinstance(what, Quote):
            return self.told(what.text)
        values = {
            name: self.say(value) if isinstance(value, (Quote, Phrase)) else value for name, value in what.values
        }
        return self.gettext(what.text).format(**values)

    def alone(self, what: Phrase | Quote | str) -> str:
        """The same where nothing stands before it, see `Beginning`."""
        said = self.say(what)
        return _beginning()(said) if self.code == "en" and isinstance(what, Quote) else said

    def told(self, text: str) -> str:
        """What another part of Leeward said in English; as it is where the catalogue does not know it."""
        return text if self.code == "en" else self._told(text)

    # --- numbers ----------------------------------------------------------------------------------------

    def number(self, value: float) -> str:
        return str(format_decimal(value, locale=self.locale))

    def percent(self, fraction: float) -> str:
        """Rounded down: what is not complete is not 100 %."""
        return str(format_percent(int(fraction * 100) / 100, locale=self.locale))

    def size(self, count: float) -> str:
        """Bytes in binary units."""
        value, unit = float(count), 0
        while value >= 1024 and unit < len(_UNITS) - 1:
            value, unit = value / 1024, unit + 1
        pattern = "#,##0" if unit == 0 or value >= 100 else "#,##0.0"
        return f"{format_decimal(value, pattern, locale=self.locale)} {_UNITS[unit]}"

    def span(self, seconds: float | None) -> str:
        """A length of time, in the largest unit that says enough: 45 sec, 2 min, 3 hr, 5 days."""
        return "–" if seconds is None else _span(self.code, _rounded(seconds))

    # --- times ------------------------------------------------------------------------------------------

    def when(self, moment: str | float | None, zone: tzinfo) -> str:
        """moment: UTC, ISO 8601 or seconds."""
        found = instant(moment)
        return "–" if found is None else str(format_datetime(found, "medium", zone, self.locale))

    def lately(self, moment: str | float | None, zone: tzinfo) -> str:
        """As short as says enough: of today the time alone."""
        found = instant(moment)
        if found is None:
            return "–"
        there = found.astimezone(zone)
        if there.date() == datetime.now(zone).date():
            return str(format_time(found, "medium", zone, self.locale))
        return str(format_datetime(found, "short", zone, self.locale))

    def day(self, moment: str | float | None, zone: tzinfo) -> str:
        """The date alone, as short as it is clear."""
        found = instant(moment)
        return "–" if found is None else str(format_date(found.astimezone(zone), "medium", self.locale))

    def clock(self, moment: str | float | None, zone: tzinfo) -> str:
        """The time of day alone."""
        found = instant(moment)
        return "–" if found is None else str(format_time(found, "medium", zone, self.locale))

    def tick(self, moment: float, span: float, zone: tzinfo) -> str:
        """A mark of a time axis that reaches over `span` seconds."""
        pattern = "HH:mm:ss" if span < 900 else "HH:mm" if span < 2 * 86_400 else "MMMd"
        found = datetime.fromtimestamp(moment, UTC)
        if pattern == "MMMd":
            return str(format_skeleton(pattern, found, zone, locale=self.locale))
        return str(format_datetime(found, pattern, zone, self.locale))

    @cached_property
    def name(self) -> str:
        return LANGUAGES[self.code]


@lru_cache(maxsize=len(LANGUAGES))
def language_named(code: str) -> Language:
    """Kept: compiling a catalogue takes long."""
    return Language(code)


def _rounded(seconds: float) -> float:
    """Whole seconds up to an hour, so that few different texts are made; tenths below ten seconds say too much."""
    return float(int(seconds)) if seconds >= 1 else round(max(seconds, 0.0), 1)


@lru_cache(maxsize=8192)
def _span(code: str, seconds: float) -> str:
    for length, unit in _SPANS:
        if seconds >= 2 * length or (unit == "duration-day" and seconds >= length):
            return str(format_unit(int(seconds // length), unit, "short", locale=code))
    return str(format_unit(int(seconds) if seconds >= 1 else seconds, "duration-second", "short", locale=code))


def instant(moment: str | float | None) -> datetime | None:
    if moment is None or moment == "":
        return None
    if isinstance(moment, str):
        return datetime.fromisoformat(moment)
    return datetime.fromtimestamp(moment, UTC)


def took(begun_ended: tuple[str, str | None]) -> float | None:
    """Seconds from one UTC time to the other; None while it goes on."""
    begun, ended = (instant(moment) for moment in begun_ended)
    return (ended - begun).total_seconds() if begun and ended else None


def _catalogue(code: str) -> tuple[gettext.NullTranslations, list[str]]:
    """And the patterns in it, see `told`."""
    if code == "en":
        return gettext.NullTranslations(), []
    compiled, found = io.BytesIO(), _read(code)
    write_mo(compiled, found)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled), patterns_in(found)


@lru_cache(maxsize=len(LANGUAGES))
def _read(code: str) -> Catalog:
    source = files("leeward.console.web") / "locale" / code / "LC_MESSAGES" / "leeward.po"
    return read_po(io.BytesIO(source.read_bytes()), locale=code)


@lru_cache(maxsize=1)
def _beginning() -> Beginning:
    """English has no catalogue of its own; the texts stand in each of the others."""
    known = _read(next(code for code in LANGUAGES if code != "en"))
    return Beginning(whole_in(known), patterns_in(known))


def chosen(wanted: str | None, accepted: str) -> str:
    """The language to speak. wanted: what the reader has set; accepted: his browser's Accept-Language."""
    if wanted in LANGUAGES:
        return str(wanted)
    for code in _accepted(accepted):
        if code in LANGUAGES:
            return code
    return "en"


def _accepted(header: str) -> Iterable[str]:
    weighed: list[tuple[float, int, str]] = []
    for part in header.split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighed.append((-float(weight or 1), len(weighed), Locale.parse(tag.strip(), sep="-").language))
        except (ValueError, UnknownLocaleError, TypeError):
            continue
    return [language for _, _, language in sorted(weighed)]


@lru_cache(maxsize=256)
def zone_named(name: str) -> tzinfo:
    """By its IANA name, as the browser tells it; UTC for what is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
