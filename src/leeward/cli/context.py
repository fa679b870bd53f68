"""What the options before the command say, for every command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from leeward.cli.client import Client
    from leeward.cli.config import Settings

JSON = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]


@dataclass(slots=True)
class Context:
    config: Path | None = None

    def settings(self) -> Settings:
        from leeward.cli.config import find_settings

        return find_settings(self.config)

    def client(self) -> Client:
        from leeward.cli.client import Client

        return Client(self.settings())


_context = Context()


def current() -> Context:
    """Of this process's one command."""
    return _context
