"""Light commands load light: told by the modules that are there when they are done, since times vary."""

import json
import os
import subprocess
import sys

import pytest

RUN = """
import json, sys
from leeward.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted({name.split(".")[0] for name in sys.modules})]), file=sys.stderr)
"""
# What only the daemon, the vault and the hypervisors need.
BACKGROUND = {"libvirt", "numpy", "obstore", "sqlalchemy", "alembic", "fastapi", "uvicorn", "cryptography", "blake3"}
BACKGROUND |= {"structlog", "dbos"}


@pytest.fixture
def loaded(tmp_path):
    """loaded(words, exit code) → top-level modules that a command has loaded at its end. No daemon runs."""
    config = tmp_path / "leeward.toml"
    config.write_text(f'[vault]\nurl = "file://{tmp_path}/vault"\n[daemon]\nstate = "{tmp_path}/s"\n')

    def run(*words, code=0):
        environment = {**os.environ, "LEEWARD_CONFIG": str(config)}
        command = [sys.executable, "-c", RUN, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        told, modules = json.loads(done.stderr.splitlines()[-1])
        assert told == code, done.stderr
        return set(modules)

    return run


@pytest.mark.parametrize(
    "words", [["--help"], ["lab", "--help"], ["bench", "--help"], ["failover", "test", "--help"]]
)
def test_help_loads_nothing_that_works(loaded, words):
    assert loaded(*words) & (BACKGROUND | {"httpx"}) == set()


def test_status_loads_its_client_only(loaded):
    modules = loaded("status", code=5)
    assert "httpx" in modules
    assert modules & BACKGROUND == set()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("leeward ", {"protect", "status", "vault", "lab", "bench", "serve"}),
        ("leeward l", {"lab"}),
        ("leeward lab ", {"up", "down", "status", "demo"}),
        ("leeward vault pr", {"prune"}),
        ("leeward protect --r", {"--rpo", "--retain"}),
    ],
)
def test_the_shell_completes_commands_and_options(line, expected):
    words = line.split(" ")
    environment = {
        **os.environ,
        "_LEEWARD_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    command = [sys.executable, "-m", "leeward.cli.main"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = set(done.stdout.split())
    assert expected <= found
    assert all(word.startswith(words[-1]) for word in found)


def test_a_command_that_is_not_there_is_told(loaded):
    loaded("labs", code=2)
