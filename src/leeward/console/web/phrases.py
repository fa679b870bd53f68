"""Sentences that pure functions speak, in English, to be said in the reader's language later."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrase:
    """text: as it stands in the catalogues, with {names} for the values."""

    text: str
    values: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Quote:
    """A finished English sentence of another part of Leeward (see `told`)."""

    text: str


def phrase(text: str, **values: object) -> Phrase:
    return Phrase(text, tuple(sorted(values.items())))


def N_(text: str) -> str:  # noqa: N802 – what gettext's tools call it
    """Marks a text for the catalogues, and leaves it as it is."""
    return text
