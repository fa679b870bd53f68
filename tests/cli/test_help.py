"""Every command, down to the last one below a group, explains itself and its options, and docs/cli.md knows it."""

import re
from pathlib import Path

import pytest
import typer
from rich.text import Text

from leeward.cli.main import INTERNAL_ERROR, INTERRUPTED, app, main
from leeward.console.seat import DEPOSED
from leeward.domain.errors import LeewardError

DOCS_FOLDER = Path(__file__).parents[2] / "docs"
DOCS = (DOCS_FOLDER / "cli.md").read_text()
# They talk to people only, or run until they are ended.
WITHOUT_JSON = {"serve", "agent run", "lab demo"}


def leaves(command, words=()):
    """(its name without `leeward`, the command) of all that are not hidden."""
    if not hasattr(command, "list_commands"):
        yield " ".join(words), command
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if not found.hidden:
            yield from leaves(found, (*words, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


def named(name):
    """In docs/cli.md in full, or by its last word after others of its group: `leeward user list`, `add NAME`."""
    group, _, last = name.rpartition(" ")
    group = group.split(" ")[0]
    near = [text for text in re.split(r"\n\n", DOCS) if f"`leeward {group}" in text] if group else []
    return f"`leeward {name}" in DOCS or any(re.search(rf"[`| ]{last}\b[^`]*`", text) for text in near)


def test_there_are_those_that_scripts_rely_on():
    assert len(COMMANDS) > 80
    fixed = {"protect", "unprotect", "status", "points", "export", "vm list", "host list"}
    fixed |= {"vault init", "vault info", "vault check", "failover test", "failover cleanup"}
    fixed |= {"lab up", "lab down", "lab status"}
    assert fixed <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_explains_itself_and_its_options_and_is_documented(name):
    command = COMMANDS[name]
    assert command.help
    assert not re.search(r"\w,?\n\w", command.help)  # lines of the code, that a narrow terminal would break again
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) is (name not in WITHOUT_JSON)
    assert [parameter.name for parameter in command.params if not parameter.help] == []
    assert named(name) or name.startswith("bench "), name


def test_the_list_of_commands_has_every_one_by_itself_or_by_its_group():
    listed = set(re.findall(r"`leeward ([^`]+)`", DOCS.split("## Commands\n\n", 1)[1].split("\n\n", 1)[0]))
    assert [name for name in COMMANDS if name not in listed and name.split(" ")[0] not in listed] == []


@pytest.mark.parametrize("file", sorted(DOCS_FOLDER.glob("*.md")), ids=lambda file: file.name)
def test_no_table_is_cut_in_two_by_an_empty_line(file):
    cut = re.findall(r"^\|.*\n\n(\|(?!.*\n\|[-:| ]+\|\n).*)", file.read_text(), re.MULTILINE)
    assert cut == []


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_in_square_brackets_is_eaten_as_markup(name):
    command = COMMANDS[name]
    for text in [command.help, *(parameter.help for parameter in command.params)]:
        assert Text.from_markup(text).plain == text


@pytest.mark.parametrize("words", [(), ("failover", "unplanned"), ("lab", "up"), ("vault",)])
def test_a_switch_is_not_followed_by_a_value(words, capsys):
    assert main([*words, "--help"]) == 0
    told = capsys.readouterr().out
    assert "--help" in told
    assert "<bool>" not in told


def kinds(error):
    yield error
    for kind in error.__subclasses__():
        yield from kinds(kind)


def test_every_exit_code_is_documented_and_none_that_is_not_used():
    table = DOCS.split("## Exit codes\n", 1)[1].split("\n## ", 1)[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    ours = {kind.exit_code for kind in kinds(LeewardError) if kind.__module__.startswith("leeward.")}
    assert documented == ours | {0, DEPOSED, INTERNAL_ERROR, INTERRUPTED}
