"""Scenarios as people write them: a YAML document, strictly read. docs/scenarios.md explains it.

Whatever is wrong with one is told with the field in which it stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from leeward.domain.errors import BadInput, NotFound
from leeward.lab.guest.layout import INTERVAL_MS
from leeward.lab.scenario.steps import SHORT, STEPS, Part, Step, VmStep

FOLDER = Path(__file__).with_name("files")
_MOST_BYTES = 1 << 20
_WORDS = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "tuple_type": "a list is needed here",
    "model_type": "fields with values are needed here",
}


class GuestPart(Part):
    """ip: on the office's LAN; it keeps it at the recovery site. disks: in MiB, the first the boot disk."""

    ip: str = "10.77.0.61"
    disks: tuple[int, ...] = (64, 32)
    interval_ms: int = INTERVAL_MS


def _step(given: Any) -> Step:
    """A mapping with one key, the verb; its value the fields, or the one that matters."""
    if isinstance(given, str):
        given = {given: {}}
    if not isinstance(given, dict) or len(given) != 1:
        raise ValueError("a step is one word with its fields, like `burn: office`")
    ((verb, fields),) = given.items()
    kind = STEPS.get(verb)
    if kind is None:
        raise ValueError(f"there is no step {verb!r}; there are: {', '.join(sorted(STEPS))}")
    if not isinstance(fields, dict):
        short = SHORT.get(verb, "vm" if issubclass(kind, VmStep) else "")
        if not short:
            raise ValueError(f"{verb}: fields with values are needed here")
        fields = {short: fields}
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        where, told = _first(error)
        raise ValueError(f"{verb}: {where + ': ' if where else ''}{told}") from None


class Scenario(Part):
    """shows: what it proves, one sentence. guests: those that run at the office when it begins."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    shows: str = Field(min_length=1, max_length=500)
    guests: dict[str, GuestPart] = Field(default_factory=lambda: {"web": GuestPart()})
    steps: tuple[Annotated[Any, BeforeValidator(_step)], ...] = Field(min_length=1)

    @field_validator("guests")
    @classmethod
    def _some(cls, given: dict[str, GuestPart]) -> dict[str, GuestPart]:
        if not given:
            raise ValueError("a scenario without guests shows nothing")
        addresses = [guest.ip for guest in given.values()]
        if len(set(addresses)) != len(addresses):
            raise ValueError("two guests have one address")
        return given

    @model_validator(mode="after")
    def _known_vms(self) -> Scenario:
        for number, step in enumerate(self.steps):
            if isinstance(step, VmStep) and step.vm not in self.guests:
                raise ValueError(f"steps.{number}: {step.verb}: {step.vm!r} is not among the guests")
        return self


def read_scenario(path: Path) -> Scenario:
    """Raises NotFound, BadInput: which names the field."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise NotFound("the file does not exist", subject=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the file cannot be read: {error}", subject=str(path)) from None
    if len(text) > _MOST_BYTES:
        raise BadInput("a scenario is not that large", subject=str(path))
    try:
        # Every value as text, which the model reads as what it should be: no VM called "no" becomes false.
        found = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise BadInput(f"this is not YAML: {' '.join(str(error).split())}", subject=str(path)) from None
    if not isinstance(found, dict):
        raise BadInput("a scenario has a name and steps", subject=str(path), hint="See docs/scenarios.md")
    try:
        return Scenario.model_validate(found)
    except ValidationError as error:
        where, told = _first(error)
        hint = "See docs/scenarios.md"
        raise BadInput(f"{where}: {told}" if where else told, subject=str(path), hint=hint) from None


def shipped() -> list[Path]:
    """The scenarios that come with Leeward, by name."""
    return sorted(FOLDER.glob("*.yaml"))


def _first(error: ValidationError) -> tuple[str, str]:
    first = error.errors()[0]
    told = _WORDS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    return ".".join(str(part) for part in first["loc"]), told[:1].lower() + told[1:]
