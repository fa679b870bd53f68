"""What a form brings: read as pages send it, checked field by field, with nothing lost when something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from pydantic import ValidationError

from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.domain.durations import seconds
from leeward.domain.errors import BadInput

# A plan of hundreds of VMs has thousands.
_MOST_FIELDS = 20_000
_TIMEOUT_S = (1.0, 3600.0)


class Form:
    """Values by name; a name may come several times."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def __getitem__(self, name: str) -> str:
        """The first of this name, "" when there is none."""
        return next((value for found, value in self._pairs if found == name), "")

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value for found, value in self._pairs if found == name))

    def pairs(self) -> list[tuple[str, str]]:
        """All, as they came."""
        return list(self._pairs)

    def has(self, name: str) -> bool:
        """Also when it is empty."""
        return any(found == name for found, _ in self._pairs)

    def given(self, name: str) -> bool:
        return bool(self[name])

    def ticked(self, name: str) -> bool | None:
        """Of a box, as requests tell it: None leaves it to the default."""
        return True if self[name] else None

    def values(self, *names: str) -> dict[str, str]:
        """To fill the form in again."""
        return {name: self[name] for name in names}


async def read_form(request: Request) -> Form:
    """Of the kind that a page's form sends, and no other. Raises BadInput."""
    body = await request.body()
    if body and not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise BadInput("a form is expected", subject="body")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except (ValueError, UnicodeDecodeError):
        raise BadInput("the form cannot be read", subject="body") from None
    return Form([(name, value.replace("\0", "")) for name, value in pairs])


Posted = Annotated[Form, Depends(read_form)]


def required(form: Form, *names: str) -> dict[str, Phrase]:
    return {name: phrase(N_("Fill this in.")) for name in names if not form[name].strip()}


def span_field(form: Form, name: str, wrong: dict[str, Phrase]) -> float | None:
    """Seconds of a field like "5s" or "2h"; None when it is empty."""
    text = form[name].strip()
    if not text:
        return None
    try:
        return seconds(text)
    except BadInput:
        wrong[name] = phrase(N_("Write it like 5s, 10min, 2h or 7d."))
        return None


def timeout_field(form: Form, wrong: dict[str, Phrase]) -> float | None:
    """How long a guest may take to shut down, in seconds, as requests allow it; None when the field is empty."""
    found = span_field(form, "timeout", wrong)
    if found is not None and not _TIMEOUT_S[0] <= found <= _TIMEOUT_S[1]:
        wrong["timeout"] = phrase(N_("From 1 second to 1 hour."))
        return None
    return found


def note_faults(
    error: ValidationError, wrong: dict[str, Phrase], limit: Callable[[str, float], str], odd: Mapping[str, str]
) -> None:
    """What a model says of its fields, where nothing is said of them yet. limit: of a field, as it is typed. odd: of
    fields that can be wrong in other ways than by their bounds."""
    for one in error.errors():
        name, context = str(one["loc"][0]), one.get("ctx", {})
        why = phrase(odd.get(name, N_("This cannot be used.")))
        for bound, text in (("ge", N_("At least {limit}.")), ("le", N_("At most {limit}."))):
            if bound in context:
                why = phrase(text, limit=limit(name, context[bound]))
        wrong.setdefault(name, why)


def whole_field(form: Form, name: str, wrong: dict[str, Phrase]) -> int | None:
    text = form[name].strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        wrong[name] = phrase(N_("Write a whole number."))
        return None
    return int(text)
