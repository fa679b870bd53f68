"""What Leeward's other parts say, found in their code: the texts are for the catalogues, not said from here.

An error is made of a message and a hint, plain or with values in them: `NotFound(f"no disk {disk.target}")`. A value
is called in the catalogues what it is called there: `no disk {target}`. Only work on the catalogues needs this; a
running console has the texts from them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

import leeward

ROOT = Path(leeward.__file__).parent
# Nothing from these comes to a page: they speak to the command line, to an agent's log, or to who starts a console.
_ELSEWHERE = (
    "lab/",
    "cli/",
    "agent/channel.py",
    "agent/enrolment.py",
    "agent/fence.py",
    "agent/identity.py",
    "agent/keys.py",
    "agent/remote.py",
    "agent/wiring.py",
    "console/agents_line.py",
    "console/agents_server.py",
    "console/authority.py",
    "console/consoles.py",
    "console/errors.py",
    "console/listeners.py",
    "console/listing.py",
    "console/seat.py",
    "console/standby.py",
    "console/users_api.py",
    "recovery/image.py",
    "state/agents.py",
    "state/seat.py",
    "vault/stores/cost.py",
    "vault/stores/keys.py",
    "vault/stores/opening.py",
    "vault/stores/providers.py",
    "wire/tokens.py",
)
# What else takes a finished sentence for its first argument: steps, findings, verdicts, warnings, damaged objects.
_SPEAKERS = frozenset(
    ("Done", "Ended", "Fault", "Refusal", "Seen", "Trouble", "Verdict", "_Seen", "_full", "_give_time", "_give_up")
) | {"_void", "depose", "fail", "note", "tell", "withdraw"}
_SENTENCES = frozenset(("hint", "reason", "detail", "failure", "words", "no_tpm"))


@lru_cache(maxsize=1)
def texts() -> tuple[tuple[str, str], ...]:
    """(file, text) of each sentence, once each."""
    found: dict[str, str] = {}
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if not place.startswith(_ELSEWHERE):
            for text in texts_in(path.read_text(), _errors()):
                found.setdefault(text, place)
    return tuple((place, text) for text, place in found.items() if _says_something(text))


def form(text: str) -> str:
    """The same for texts that differ in nothing but what their values are called."""
    return re.sub(r"{\w+}", "{}", text)


def _says_something(text: str) -> bool:
    return " " in text and len(re.findall(r"\b[A-Za-z]{2,}\b", form(text))) > 1


def texts_in(code: str, errors: Collection[str]) -> Iterator[str]:
    """errors: names of the classes of errors in it."""
    tree = ast.parse(code)
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    assigned.setdefault(target.id, []).append(node.value)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        said = [given.value for given in node.keywords if given.arg in _SENTENCES]
        if _called(node.func) in errors or _called(node.func) in _SPEAKERS or _appends_warning(node.func):
            said += node.args[:1]
        for expression in said:
            yield from _texts(expression, assigned)


def _appends_warning(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr == "append" and _called(function.value) == "warnings"


@lru_cache(maxsize=1)
def _errors() -> frozenset[str]:
    """The names of all kinds of LeewardError, wherever they are made."""
    found = {"LeewardError"}
    kinds = [
        (node.name, {_called(base) for base in node.bases})
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    while more := {name for name, bases in kinds if bases & found} - found:
        found |= more
    return frozenset(found)


def _called(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _texts(node: ast.expr, assigned: dict[str, list[ast.expr]]) -> Iterator[str]:
    """Every text that the expression can be; of parts that come from elsewhere, none."""
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body, assigned)
        yield from _texts(node.orelse, assigned)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _texts(value, assigned)
    elif isinstance(node, ast.Name):
        for value in assigned.get(node.id, []):
            yield from _texts(value, {})
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        for left in _texts(node.left, assigned):
            yield from (left + right for right in _texts(node.right, assigned))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield _formatted(node)


def _formatted(node: ast.JoinedStr) -> str:
    pieces: list[str] = []
    used: dict[str, int] = {}
    for part in node.values:
        if isinstance(part, ast.Constant):
            pieces.append(str(part.value))
        elif isinstance(part, ast.FormattedValue):
            name = _name(part.value)
            used[name] = used.get(name, 0) + 1
            pieces.append(f"{{{name}{used[name] if used[name] > 1 else ''}}}")
    return "".join(pieces)


def _name(value: ast.expr) -> str:
    """What a value is called: the last of the names in it that is one of ours."""
    names = [part.attr if isinstance(part, ast.Attribute) else part.id for part in _named(value)]
    last = names[0] if names else "value"
    return last.strip("_").lower() or "value"


def _named(value: ast.expr) -> list[ast.Attribute | ast.Name]:
    return [
        part
        for part in ast.walk(value)
        if (isinstance(part, ast.Attribute) and part.attr not in ("join", "strip", "lower", "get"))
        or (isinstance(part, ast.Name) and part.id not in ("sorted", "len", "max", "min", "str", "utc", "repr"))
    ]
