"""Brings the catalogues up to date with the texts in the code: `python -m leeward.console.web.catalogue`.

What has no translation yet is left empty; a test fails until it has one. What is no longer said is dropped.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from leeward.console.web import spoken
from leeward.console.web.language import LANGUAGES
from leeward.domain.procedures import STEPS, UNDO_TELLS

HERE = Path(__file__).parent
_METHODS = [("templates/**.html", "jinja2"), ("**.py", "python")]
_OPTIONS = {"templates/**.html": {"trimmed": "false", "trim_blocks": "true", "lstrip_blocks": "true"}}
# Of the header only what readers of the file need: dates and names would change with every update.
_NOISE = tuple(
    f'"{name}' for name in ("Project-", "Report-", "POT-", "PO-", "Last-", "Language-Team", "Generated-", "MIME-")
)
_KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None}


def path_of(code: str) -> Path:
    return HERE / "locale" / code / "LC_MESSAGES" / "leeward.po"


def said() -> Catalog:
    """Every text that pages can say."""
    found = Catalog(fuzzy=False)
    for place, _, text, comments, _ in extract_from_dir(
        HERE, _METHODS, options_map=_OPTIONS, keywords=_KEYWORDS, comment_tags=()
    ):
        flags = [] if "{" not in str(text) else ["python-brace-format"]
        found.add(text, locations=[(place, 0)], flags=flags, auto_comments=comments)
    for text in sorted(set(_domain())):
        found.add(text, locations=[("domain/procedures.py", 0)])
    forms = {spoken.form(message.id): message.id for message in found if isinstance(message.id, str)}
    for place, text in spoken.texts():
        known = forms.setdefault(spoken.form(text), text)
        found.add(known, locations=[(place, 0)], flags=["python-brace-format"] if "{" in text else [])
    return found


def _domain() -> Iterator[str]:
    """What procedures tell of their steps stands in the domain, for the command line too."""
    for steps in STEPS.values():
        for step in steps:
            yield step.tells
    yield from UNDO_TELLS.values()


def known(code: str) -> Catalog:
    path = path_of(code)
    return read_po(io.BytesIO(path.read_bytes()), locale=code) if path.exists() else Catalog(locale=code)


def update(code: str) -> None:
    catalogue = known(code)
    catalogue.fuzzy = False
    catalogue.update(said(), no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    path = path_of(code)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = io.BytesIO()
    write_po(written, catalogue, width=118, sort_output=True, ignore_obsolete=True)
    lines = written.getvalue().decode().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(_NOISE)))


if __name__ == "__main__":
    for language in LANGUAGES:
        if language != "en":
            update(language)
