"""What the options before the command say, for every command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from leeward.cli.client import Client
from leeward.cli.config import Settings, find_settings

JSON = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]


@dataclass(slots=True)
class Context:
    config: Path | None = None

    def settings(self) -> Settings:
        return find_settings(self.config)

    def client(self) -> Client:
        return Client(self.settings())


_context = Context()


def current() -> Context:
    """Of this process's one command."""
    return _context
