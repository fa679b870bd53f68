"""Plans in files: YAML, TOML or JSON, told apart by the file's name."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from leeward.domain.errors import BadInput, NotFound

_MOST_BYTES = 1 << 20


def read_document(path: Path) -> dict[str, Any]:
    """ "-" is standard input, in YAML. Raises NotFound, BadInput."""
    import yaml  # which every other command does without

    text = sys.stdin.read(_MOST_BYTES + 1) if str(path) == "-" else _text(path)
    if len(text) > _MOST_BYTES:
        raise BadInput("a plan is not that large", subject=str(path))
    try:
        # YAML's plain loader takes every value as text, which the console reads as what it should be: no VM called
        # "no" becomes false, none called 007 a number.
        found = tomllib.loads(text) if path.suffix == ".toml" else yaml.load(text, Loader=yaml.BaseLoader)
        found = json.loads(json.dumps(found, default=str, allow_nan=False))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        what = "TOML" if path.suffix == ".toml" else "YAML"
        raise BadInput(f"this is not {what} that can be used: {told}", subject=str(path)) from None
    if not isinstance(found, dict):
        raise BadInput("a plan has a name and groups", subject=str(path), hint="See docs/plans.md")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise NotFound("the file does not exist", subject=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the file cannot be read: {error}", subject=str(path)) from None
