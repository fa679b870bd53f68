"""A scenario's steps on the terminal, as they happen."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape

from leeward.lab.scenario.playing import Outcome


class Shown:
    """Each step on one line with its time; on a terminal the one under way as well. quiet: nothing at all."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(highlight=False, quiet=quiet)
        self._status = self._console.status("")
        self._step = ""
        self._begun = 0.0

    def begin(self, title: str) -> None:
        self._console.print(f"\n[bold cyan]▌ {escape(title)}[/]")
        self._step, self._begun = "set up", time.monotonic()
        self._status.update("set up")
        self._status.start()

    def tell(self, text: str, detail: str | None) -> None:
        if detail is None:
            if self._step == "set up":
                self._line("set up", "")
            self._step = text
            self._status.update(escape(text))
            return
        self._line(text, detail)

    def stop(self) -> None:
        self._status.stop()

    def end(self, outcome: Outcome) -> None:
        self.stop()
        if not outcome.passed:
            self._console.print(
                f"  [red]✗[/] {escape(self._step)}\n    [red]{escape(outcome.failure)}[/]", soft_wrap=True
            )
            return
        last = outcome.lines[-1]
        self._line(last.text, last.detail)
        twice = (
            f", two primaries that nobody could know of for {outcome.excused_s:.1f} s" if outcome.excused_s else ""
        )
        self._console.print(
            f"  [green]●[/] {outcome.seconds:.0f} s, {outcome.looks} looks at where the VM is{twice}", soft_wrap=True
        )

    def _line(self, text: str, detail: str) -> None:
        took = time.monotonic() - self._begun
        self._begun = time.monotonic()
        more = f"  [bright_black]{escape(detail)}[/]" if detail else ""
        self._console.print(f"  [green]✓[/] {took:5.1f} s  {escape(text)}{more}", soft_wrap=True)
