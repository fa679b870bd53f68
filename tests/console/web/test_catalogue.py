"""Every text is said in every language, and nothing in a template stands outside of them."""

import ast
import inspect
import re
import sys
import time
from functools import cache
from pathlib import Path

import pytest

import leeward
from leeward.console.web import catalogue, spoken
from leeward.console.web.language import LANGUAGES, language_named
from leeward.console.web.sentences import PATTERNS
from leeward.console.web.told import Shapes, Told, own_words, patterns_in, tells_enough
from leeward.domain.procedures import STEPS

TEMPLATES = sorted((Path(catalogue.__file__).parent / "templates").glob("*.html"))
# What needs no translation: names, commands, lines of a configuration file, signs.
PLAIN = re.compile(r"(Leeward|[\s\d·–/…:|.,]|XXXXX(-XXXXX)*|·)*")
OTHERS = [code for code in LANGUAGES if code != "en"]


@cache
def said():
    """Looked for throughout the code when a test asks for it, not when tests are collected: it takes seconds."""
    return catalogue.said()


def ids(messages):
    return {message.id if isinstance(message.id, str) else message.id[0] for message in messages if message.id}


@pytest.mark.parametrize("code", OTHERS)
def test_the_catalogue_has_every_text_and_none_that_is_gone(code):
    found, known = ids(said()), ids(catalogue.known(code))
    hint = "run python -m leeward.console.web.catalogue, and translate"
    assert found - known == set(), hint
    assert known - found == set(), hint


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


def test_texts_are_marked_only_where_the_catalogue_looks_for_them():
    root = Path(leeward.__file__).parent
    marked = {path for path in root.rglob("*.py") if re.search(r"\bN_\(", path.read_text())}
    assert {path for path in marked if catalogue.HERE not in path.parents} == set()
    assert marked


def heard():
    """Texts in the rest of Leeward, with {} where a value comes in; some begin with what joins them to others."""
    for path in Path(leeward.__file__).parent.rglob("*.py"):
        if path.name == "sentences.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)


def test_every_pattern_is_a_sentence_that_leeward_really_says():
    known = {spoken.form(text) for text in heard()}
    known |= {text.lstrip(";: ") for text in known}
    for pattern in PATTERNS:
        assert spoken.form(pattern) in known, pattern


def test_no_sentence_is_listed_that_is_found_in_the_code_anyway():
    found = {spoken.form(text) for _, text in spoken.texts()}
    assert [pattern for pattern in PATTERNS if spoken.form(pattern) in found] == []


@pytest.mark.parametrize("name", ["Mail", "Recovery", "Vault", "Test", "Home", "Hosts"])
def test_the_name_of_a_vm_or_plan_is_left_though_the_catalogue_has_that_word(name):
    language = language_named("ja")
    assert language.gettext(name) != name
    assert language.told(f"{name}: start: no memory left") == f"{name}: start: no memory left"
    assert language.told(f"a ({name})") == f"a ({name})"
    said = language.told(f"{name}: change tracking was lost; {name}: nobody knows ({name})")
    assert said == f"{name}: {language.gettext('change tracking was lost')}; {name}: nobody knows ({name})"
    assert language.told("starting; nobody knows") == f"{language.gettext('starting')}; nobody knows"


def test_no_pattern_fits_what_other_programs_say():
    """List the whole sentences in sentences.py instead."""
    assert [pattern for pattern in patterns_in(said()) if not tells_enough(pattern)] == []
    language = language_named("ja")
    for text in ("Requested operation is not valid: domain is not running", "It is too late", "x is not y"):
        assert language.told(text) == text
    assert "時間" in language.told("'soon' is not a duration")


def test_errors_and_hints_are_found_in_the_code(tmp_path):
    code = """
_HINT = "Look again"
class Gone(NotFound): ...
raise Gone(f"no disk {disk.target} of {len(self.disks)} on {host.name}", hint=_HINT)
raise Refused("it is " + ("here" if here else "gone for good"), subject="what is not said")
context.tell(f"waiting for {a.name} and {b.name}")
"""
    assert set(spoken.texts_in(code, {"NotFound", "Refused", "Gone"})) == {
        "no disk {target} of {disks} on {name}",
        "Look again",
        "it is here",
        "it is gone for good",
        "waiting for {name} and {name2}",
    }
    assert {"NotFound", "HypervisorError", "HostUnavailable"} <= spoken._errors()


def test_what_was_told_is_taken_apart_and_said_again():
    known = {
        "the vault cannot be read: {why}": "V: {why}",
        "change tracking was lost": "T",
        "{what} does not answer": "{what} A",
        "the line to {what} does not answer": "L {what}",
        "Watch it with `show {vm}`, or end it with `end {vm}`": "W {vm}",
        "Recovery": "R",
        "{a}: {b}": "nothing is said with so few words",
    }
    told = Told(lambda text: known.get(text, text), known)
    assert told("the vault cannot be read: change tracking was lost") == "V: T"
    assert told("the line to it does not answer") == "L it"  # not the other one, which fits as well
    assert told("Watch it with `show a`, or end it with `end a`") == "W a"
    assert told("Watch it with `show a`, or end it with `end b`").startswith("Watch it")
    assert told("Recovery does not answer") == "Recovery A"  # a VM may be called so
    assert told("web: change tracking was lost; nobody knows (the vault cannot be read: x)") == (
        "web: T; nobody knows (V: x)"
    )
    language = language_named("ja")
    assert language.told("its host office cannot be asked; it can be recovered from the vault").count("office") == 1
    assert language.told("nobody has ever said this {here}") == "nobody has ever said this {here}"
    said = "domain is busy with a job that somebody else has begun"  # "{kind} begun" is what pages say
    assert language.told(said) == said
    assert language_named("en").told("the vault cannot be read: x") == "the vault cannot be read: x"
    assert not re.search("[a-z]{3} [a-z]{2}", language.told("it runs at the recovery site; its run has stalled"))


@cache
def patterns():
    return [pattern for pattern in patterns_in(said()) if tells_enough(pattern)]


def filled(pattern, value):
    return re.sub(r"{(\w+)}", value, pattern)


@pytest.mark.parametrize("value", ["web-1", "7", "the host of it"])
def test_of_all_that_fits_what_says_most_is_said_whatever_was_found_in_the_code(value):
    shapes = Shapes(patterns())
    wrong = {}
    for pattern in patterns():
        found = shapes.fitting(filled(pattern, value))
        if found is None or found[0] != pattern:
            wrong[pattern] = found
    assert wrong == {}


def test_of_two_patterns_that_fit_the_one_with_more_of_its_own_wins():
    for known in (["approves of {group}", "approves of {group}: {question}"], ["host {a} of {b}", "host {name}"]):
        for patterns in (known, known[::-1]):
            shapes = Shapes(patterns)
            assert [shapes.fitting(filled(pattern, "x"))[0] for pattern in known] == known


def test_few_patterns_are_tried_for_a_text():
    shapes = Shapes(patterns())
    tried = [len(shapes.candidates(filled(pattern, "web-1"))) for pattern in patterns()]
    assert len(patterns()) > 200
    assert max(tried) < 30
    assert sum(tried) / len(tried) < 8


def test_a_word_that_a_value_touches_finds_nothing():
    assert own_words("within {seconds}s of {n} tries{end} at all") == {"within", "of", "at", "all"}
    assert Shapes(["{a}within{b} tries"]).fitting("xwithiny tries") == ("{a}within{b} tries", {"a": "x", "b": "y"})
    assert Shapes(["…{a}…{b}"]).fitting("…x…y") is not None


@pytest.mark.parametrize(
    "text",
    ["host a has a VM b already (c) ", "it runs at a: b; c. d (e) ", "a" * 40, "It is ", "Wait ", "Wait for It is "],
)
def test_nothing_takes_long_to_be_taken_apart(text):
    language = language_named("ja")
    for length in (300, 999, 100_000):
        begun = time.process_time()
        language.told((text * length)[:length])
        language.told((text * length)[: length - 2] + " s")
        assert time.process_time() - begun < 1


@pytest.mark.parametrize("text", ["It is " * 160, "Wait " * 190 + " s" * 20, "Wait " + "It is " * 150 + " s"])
def test_a_sentence_within_a_sentence_is_not_followed_for_ever(text):
    depth = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 80)
    try:
        said = language_named("ja")._told._whole(text, 0)  # no RecursionError that somebody else has to catch
    finally:
        sys.setrecursionlimit(depth)
    assert text[-40:].split()[0] in said


@pytest.mark.parametrize("code", OTHERS)
def test_what_is_said_as_a_whole_is_not_taken_apart(code):
    language = language_named(code)
    for steps in STEPS.values():
        for step in steps:
            assert language.told(step.tells) == language.gettext(step.tells) != step.tells
