"""Every text is said in every language, and nothing in a template stands outside of them."""

import ast
import re
from pathlib import Path

import pytest

import leeward
from leeward.console.web import catalogue
from leeward.console.web.language import LANGUAGES, Language
from leeward.console.web.told import PATTERNS, Told
from leeward.domain.procedures import STEPS

TEMPLATES = sorted((Path(catalogue.__file__).parent / "templates").glob("*.html"))
# What needs no translation: names, commands, lines of a configuration file, signs.
PLAIN = re.compile(r"(Leeward|[\s\d·–/…:|.,]|XXXXX(-XXXXX)*|·)*")
OTHERS = [code for code in LANGUAGES if code != "en"]


def ids(messages):
    return {message.id if isinstance(message.id, str) else message.id[0] for message in messages if message.id}


@pytest.mark.parametrize("code", OTHERS)
def test_the_catalogue_has_every_text_and_none_that_is_gone(code):
    said, known = ids(catalogue.said()), ids(catalogue.known(code))
    hint = "run python -m leeward.console.web.catalogue, and translate"
    assert said - known == set(), hint
    assert known - said == set(), hint


@pytest.mark.parametrize("code", OTHERS)
def test_every_text_is_translated_with_the_same_values(code):
    for message in catalogue.known(code):
        if not message.id:
            continue
        whole = [message.string] if isinstance(message.string, str) else list(message.string)
        assert all(whole), message.id
        assert not message.fuzzy, message.id
        one = message.id if isinstance(message.id, str) else message.id[1]
        for text in whole:
            assert names(text) == names(one), (message.id, text)


@pytest.mark.parametrize("code", OTHERS)
def test_templates_can_say_every_translation(code):
    """They fill values in with %, also where a text has none: a lone % sign would end the page in an error."""
    for message in catalogue.known(code):
        if any(place.startswith("templates/") for place, _ in message.locations):
            whole = [message.string] if isinstance(message.string, str) else list(message.string)
            for text in whole:
                assert text % dict.fromkeys(re.findall(r"%\((\w+)\)s", text), "x"), message.id


def names(text):
    return sorted(re.findall(r"%\((\w+)\)s|(?<!{){(\w+)}", text))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_no_template_says_anything_that_cannot_be_translated(path):
    text = re.sub(r"{#.*?#}", " ", path.read_text(), flags=re.S)
    text = re.sub(r"{%-? *trans.*?endtrans *-?%}", " ", text, flags=re.S)
    text = re.sub(r"{{.*?}}|{%.*?%}", " ", text, flags=re.S)
    text = re.sub(r"<(pre|code)\b.*?</\1>", " ", text, flags=re.S)
    for attribute in ("aria-label", "title", "placeholder", "alt", "hx-confirm"):
        for value in re.findall(rf'\b{attribute}="([^"]*)"', text):
            assert PLAIN.fullmatch(value), (attribute, value)
    for piece in re.sub(r"<[^>]*>", "\n", text).splitlines():
        assert PLAIN.fullmatch(piece), piece


def spoken():
    """Texts in the rest of Leeward, with {} where a value comes in."""
    for path in Path(leeward.__file__).parent.rglob("*.py"):
        if path.name == "told.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)


def test_every_pattern_is_a_sentence_that_leeward_really_says():
    heard = {re.sub(r"{\w+}", "{}", text) for text in spoken()}
    for pattern in PATTERNS:
        assert re.sub(r"{\w+}", "{}", pattern) in heard, pattern


def test_what_was_told_is_taken_apart_and_said_again():
    known = {"the vault cannot be read: {why}": "V: {why}", "change tracking was lost": "T"}
    told = Told(lambda text: known.get(text, text))
    assert told("the vault cannot be read: change tracking was lost") == "V: T"
    language = Language("ja")
    assert language.told("its host office cannot be asked; it can be recovered from the vault").count("office") == 1
    assert language.told("nobody has ever said this {here}") == "nobody has ever said this {here}"
    assert Language("en").told("the vault cannot be read: x") == "the vault cannot be read: x"


@pytest.mark.parametrize("code", OTHERS)
def test_what_is_said_as_a_whole_is_not_taken_apart(code):
    language = Language(code)
    for steps in STEPS.values():
        for step in steps:
            assert language.told(step.tells) == language.gettext(step.tells) != step.tells
