"""The parts of docs/failover.md that are told by the tables themselves: `python -m leeward.domain.guide FILE` renews
them, between the marks <!-- begin: NAME --> and <!-- end: NAME -->."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from leeward.domain.lifecycle import REQUESTS, TRANSITIONS, Event, Phase, diagram
from leeward.domain.procedures import STEPS, UNDO_TELLS, Kind, undo_order

_TITLES = {
    Kind.PLANNED: "Planned failover",
    Kind.UNPLANNED: "Unplanned failover",
    Kind.COMMIT: "Commit of a failover",
    Kind.FAILBACK: "Failback",
    Kind.UNPLANNED_FAILBACK: "Unplanned failback",
    Kind.FINISH: "Commit of a failback",
    Kind.TEST: "Test failover",
    Kind.CLEANUP: "Cleanup of a test failover",
}


def renewed(text: str) -> str:
    """The document with its generated parts as they should be. Raises KeyError for a mark of an unknown name."""
    parts = {"diagram": _diagram, "requests": _requests, "steps": _steps}

    def part(found: re.Match[str]) -> str:
        name = found.group(1)
        return f"<!-- begin: {name} -->\n{parts[name]()}\n<!-- end: {name} -->"

    return re.sub(r"<!-- begin: (\S+) -->.*?<!-- end: \1 -->", part, text, flags=re.DOTALL)


def _diagram() -> str:
    return f"```mermaid\n{diagram()}\n```"


def _requests() -> str:
    """Phase × request: where it leads."""
    lines = ["| Phase | " + " | ".join(REQUESTS) + " |", "|---|" + "---|" * len(REQUESTS)]
    for phase in Phase:
        cells = [_cell(phase, event) for event in REQUESTS]
        lines.append(f"| **{phase}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(phase: Phase, event: Event) -> str:
    target = TRANSITIONS.get((phase, event))
    return target.value if target else "–"


def _steps() -> str:
    return "\n\n".join(_table(kind) for kind in _TITLES)


def _table(kind: Kind) -> str:
    lines = [f"### {_TITLES[kind]}", "", "| Step | What it does | Taken back by |", "|---|---|---|"]
    for step in STEPS[kind]:
        undo = "; ".join(UNDO_TELLS[action] for action in step.undo)
        if step.final:
            undo = "**point of no return**, unless it fails"
        lines.append(f"| `{step.name}` | {step.tells} | {undo or '–'} |")
    final = next((number for number, step in enumerate(STEPS[kind]) if step.final), None)
    if final is not None:
        order = " → ".join(f"`{action}`" for action in undo_order(kind, final))
        lines += ["", f"Cancelled just before the point of no return: {order}."]
    return "\n".join(lines)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(renewed(path.read_text()))
