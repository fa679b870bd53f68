"""What is wrong with a value, in words for whoever has typed it: pydantic speaks of classes and types. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "string_too_short": "it is too short",
    "string_too_long": "it is too long",
    "string_type": "a text is needed",
    "path_type": "a path is needed",
    "finite_number": "a finite number is needed",
    "tuple_type": "a list is needed",
    "list_type": "a list is needed",
    "dict_type": "fields with values are needed",
    "model_type": "fields with values are needed",
    "model_attributes_type": "fields with values are needed",
}
_KINDS = {"int": "a whole number is needed", "float": "a number is needed", "bool": "true or false is needed"}


def words_of(fault: Mapping[str, Any]) -> str:
    """Of one of the errors of a ValidationError."""
    kind, context = str(fault["type"]), fault.get("ctx", {})
    for bound, said in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if bound in context:
            return f"{said} {context[bound]}"
    if kind in ("literal_error", "enum"):
        return f"one of {context['expected']} is needed"
    if kind == "string_pattern_mismatch":
        return f"it must look like {context['pattern']}"
    own = _WORDS.get(kind) or _KINDS.get(kind.partition("_")[0])
    if own:
        return own
    text = str(fault["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]  # no further: patterns and names mean what they are
