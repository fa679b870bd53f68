"""What is wrong with a value is said in words of people, and patterns stay what they are."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from leeward.wire.faults import words_of


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    place: Path = Path("/")
    count: int = Field(default=5, ge=1, le=9)
    share: float = 0.5
    on: bool = False
    kind: Literal["a", "b"] = "a"
    name: str = Field(default="A", pattern="^[A-Z]{1,3}$")
    odd: str = ""

    @field_validator("odd")
    @classmethod
    def _even(cls, value: str) -> str:
        if value:
            raise ValueError("It is not like leeward.Path")
        return value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"place": 5}, "a path is needed"),
        ({"count": 0}, "at least 1"),
        ({"count": 10}, "at most 9"),
        ({"count": "x"}, "a whole number is needed"),
        ({"count": 1.5}, "a whole number is needed"),
        ({"share": "x"}, "a number is needed"),
        ({"on": "x"}, "true or false is needed"),
        ({"kind": "C"}, "one of 'a' or 'b' is needed"),
        ({"name": "a"}, "it must look like ^[A-Z]{1,3}$"),
        ({"name": 5}, "a text is needed"),
        ({"odd": "x"}, "it is not like leeward.Path"),
        ({"more": "x"}, "there is no such field"),
    ],
)
def test_words(given, words):
    with pytest.raises(ValidationError) as raised:
        Model.model_validate(given)
    assert words_of(raised.value.errors()[0]) == words
