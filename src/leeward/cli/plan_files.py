"""Plans in files: YAML, TOML or JSON, told apart by the file's name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from leeward.console.plan_text import MOST_BYTES, read_text
from leeward.domain.errors import BadInput, NotFound


def read_document(path: Path) -> dict[str, Any]:
    """ "-" is standard input, in YAML. Raises NotFound, BadInput."""
    text = sys.stdin.read(MOST_BYTES + 1) if str(path) == "-" else _text(path)
    return read_text(text, str(path), toml=path.suffix == ".toml")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise NotFound("the file does not exist", subject=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the file cannot be read: {error}", subject=str(path)) from None
