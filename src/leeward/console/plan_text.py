"""Plans as text: YAML, TOML or JSON, read for what it says and written as the file that the command line takes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from typing import Any

from leeward.domain.errors import BadInput

MOST_BYTES = 1 << 20
# Of what others send: a short text must not need the machine's whole memory or time. tomllib keeps every beginning of
# a dotted key, so that one of 2,000 parts takes 16 MB, and one of twice as many four times that. A key stands in one
# line, with a dot between its parts. PyYAML looks at every open bracket anew for each one that is opened.
_MOST_SENT, _MOST_DOTS, _MOST_DEPTH = 200_000, 100, 40


def read_text(text: str, subject: str, toml: bool | None = None, *, trusted: bool = True) -> dict[str, Any]:
    """toml: None for whichever it is. JSON is YAML as well. trusted: whether it comes from this machine's own
    operator, who harms nobody but himself. Raises BadInput."""
    import yaml  # which every other command does without

    if len(text) > MOST_BYTES:
        raise BadInput("a plan is not that large", subject=subject)
    if not trusted:
        _must_be_short(text, subject)
    try:
        if toml is None:
            toml = _is_toml(text)
        if not (toml or trusted):
            _must_be_plain(yaml.parse(text), subject)
        # YAML's plain loader takes every value as text, which the console reads as what it should be: no VM called
        # "no" becomes false, none called 007 a number.
        found = tomllib.loads(text) if toml else yaml.load(text, Loader=yaml.BaseLoader)
        as_json = json.dumps(found, default=str, allow_nan=False, ensure_ascii=False)
        as_json.encode()  # refuses halves of letters, which YAML takes and no page can show
        found = json.loads(as_json)
    except RecursionError:
        raise BadInput(_TOO_DEEP, subject=subject) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        told = " ".join(str(error).split())
        raise BadInput(
            f"this is not {'TOML' if toml else 'YAML'} that can be used: {told}", subject=subject
        ) from None
    if not isinstance(found, dict):
        raise BadInput("a plan has a name and groups", subject=subject, hint="See docs/plans.md")
    return found


_TOO_DEEP = "it is nested too deeply"


def _must_be_short(text: str, subject: str) -> None:
    if len(text) > _MOST_SENT:
        raise BadInput("a plan of more than 200,000 letters is taken by the command line only", subject=subject)
    is_json = text.lstrip().startswith("{")  # which TOML never begins with
    if not is_json and any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
        raise BadInput("a line with more than 100 dots is taken by the command line only", subject=subject)


def _must_be_plain(events: Iterable[Any], subject: str) -> None:
    """Of YAML: no aliases, by which a text becomes larger than it is, and no depth that a plan does not have."""
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise BadInput("a plan with aliases (*name) is taken by the command line only", subject=subject)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_DEPTH:
            raise BadInput(_TOO_DEEP, subject=subject)


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return bool(text.strip())


def write_text(document: dict[str, Any]) -> str:
    """YAML, without what is as it is anyway."""
    import yaml

    written: str = yaml.safe_dump(_short(document), sort_keys=False, allow_unicode=True, width=100)
    return written


# Of groups, checks and scripts: what need not be said.
_USUAL: dict[str, Any] = {"approval": False, "delay": 0.0, "on_failure": "stop", "note": "", "address": ""}


def _short(part: Any) -> Any:
    if isinstance(part, list):
        return [_short(one) for one in part]
    if not isinstance(part, dict):
        return int(part) if isinstance(part, float) and part == int(part) else part
    kept = {name: _short(value) for name, value in part.items() if _USUAL.get(name, ...) != value}
    return {name: value for name, value in kept.items() if value not in ([], {})}
