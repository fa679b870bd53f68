"""Plans as text: what others send is read within bounds, whatever it is made of."""

import json
import tracemalloc

import pytest

from leeward.console.plan_text import read_text
from leeward.domain.errors import BadInput

DOTTED = ".".join("a" * 3000)


def refused(text, **more):
    """Why, and how many bytes it took to find out."""
    tracemalloc.start()
    try:
        with pytest.raises(BadInput) as caught:
            read_text(text, "shop", **more)
        return caught.value.message, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        f"{DOTTED} = 1",
        f"[{DOTTED}]\nx = 1",
        f"x = {{{DOTTED} = 1}}",
        f'x = 1\n"{{" . {DOTTED.replace(".", " . ")} = 1',
        f"x = ['{{', {{y = 1, {DOTTED} = 1}}]",
    ],
)
def test_a_key_of_thousands_of_parts_takes_no_memory(text):
    why, most = refused(text, trusted=False)
    assert "more than 100 dots" in why
    assert most < 1 << 20


def test_the_longest_keys_that_are_read_take_little():
    lines = [".".join(f"{chr(97 + place % 26)}{number:x}" for place in range(100)) + " = 1" for number in range(60)]
    tracemalloc.start()
    read_text("\n".join(lines), "shop", trusted=False)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_json_in_one_line_may_have_many_dots():
    document = {"name": "shop", "groups": [{"delay": 1.5}] * 200}
    assert read_text(json.dumps(document), "shop", trusted=False)["name"] == "shop"


@pytest.mark.parametrize("text", ["a = " + "[" * 3000, "? " * 3000, "a = " + "{b=" * 3000])
@pytest.mark.parametrize("trusted", [False, True])
def test_what_is_nested_too_deeply_is_refused(text, trusted):
    assert refused(text, trusted=trusted)[0] == "it is nested too deeply"


def test_depth_takes_no_time():
    assert refused("a: " + "[" * 100_000, trusted=False)[0] == "it is nested too deeply"


@pytest.mark.parametrize("text", ['name: "\\ud800"', 'name: "\\UFFFFFFFF"', 'name: "\\U00110000"', "x = 1e999"])
def test_values_that_nobody_can_show_are_refused(text):
    assert "that can be used" in refused(text, trusted=False)[0]


def test_large_texts_are_the_command_lines():
    text = "name: shop\nnote: " + "x" * 200_000
    assert "command line only" in refused(text, trusted=False)[0]
    assert read_text(text, "shop")["name"] == "shop"
    assert "not that large" in refused("x" * (1 << 21))[0]
