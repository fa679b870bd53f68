"""Plans as text: YAML, TOML or JSON, read for what it says and written as the file that the command line takes."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from leeward.domain.errors import BadInput

MOST_BYTES = 1 << 20


def read_text(text: str, subject: str, toml: bool | None = None, *, aliases: bool = True) -> dict[str, Any]:
    """toml: None for whichever it is. JSON is YAML as well. aliases: without them no text becomes larger than it is,
    so they are not taken from others. Raises BadInput."""
    import yaml  # which every other command does without

    if len(text) > MOST_BYTES:
        raise BadInput("a plan is not that large", subject=subject)
    if toml is None:
        toml = _is_toml(text)
    try:
        if not (toml or aliases) and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise BadInput("a plan with aliases (*name) is taken by the command line only", subject=subject)
        # YAML's plain loader takes every value as text, which the console reads as what it should be: no VM called
        # "no" becomes false, none called 007 a number.
        found = tomllib.loads(text) if toml else yaml.load(text, Loader=yaml.BaseLoader)
        found = json.loads(json.dumps(found, default=str, allow_nan=False))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise BadInput(
            f"this is not {'TOML' if toml else 'YAML'} that can be used: {told}", subject=subject
        ) from None
    if not isinstance(found, dict):
        raise BadInput("a plan has a name and groups", subject=subject, hint="See docs/plans.md")
    return found


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
