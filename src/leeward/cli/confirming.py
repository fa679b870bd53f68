"""Questions before something that cannot be undone."""

from __future__ import annotations

import sys

from leeward.cli.output import err
from leeward.domain.errors import LeewardError


class Declined(LeewardError):
    """Somebody was asked, and said no; nothing was changed."""

    code = "declined"


def asks(yes: bool) -> bool:
    """On a terminal the operator is asked, also when he wants JSON; a script that gives no --yes is taken at its
    word."""
    return not yes and sys.stdin.isatty()


def confirm(what: str) -> None:
    """Raises Declined unless the answer is yes. All of it beside the answer: standard output may go into a pipe."""
    while True:
        err.print(f"{what}. Go on? [y/N]: ", end="", soft_wrap=True)
        sys.stderr.flush()
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError:  # whatever was meant, it was no yes
            line = "n"
        if not line:
            err.print()
        answer = line.strip().lower()
        if answer in ("y", "yes"):
            return
        if answer in ("", "n", "no"):
            raise Declined("Nothing was done")
        err.print("Answer y or n")
