"""A console with one VM in memory, behind a real socket, and commands that are called as a script does."""

import io

import pytest
from tests.cli.by_socket import behind_socket, configure
from tests.console.world import World

from leeward.console.api import build_api
from leeward.console.identity import build_identity


class Terminal(io.StringIO):
    """Standard input at which somebody types this."""

    def isatty(self):
        return True


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def config(tmp_path, monkeypatch):
    return configure(tmp_path, monkeypatch)


@pytest.fixture
def app(world):
    return build_api(world.service, build_identity(world.database))


@pytest.fixture
def run(app, config, tmp_path, capsys):
    """run("status", …) → (exit code, standard output, standard error)."""
    with behind_socket(app, tmp_path, capsys) as call:
        yield call
