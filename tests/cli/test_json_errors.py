"""Whatever goes wrong with a command that was to print JSON: its one document says so, with the exit code in it."""

import json

import pytest

from leeward.cli import vaults
from leeward.cli.main import main


@pytest.fixture
def failed(capsys, tmp_path, monkeypatch):
    """failed("status", …) → (the error, standard error) of a command that ends with the error's exit code."""
    config = tmp_path / "leeward.toml"
    config.write_text(f'[daemon]\nstate = "{tmp_path}/s"\n')
    monkeypatch.setenv("LEEWARD_CONFIG", str(config))

    def call(*words):
        code = main([*words, "--json"])
        out, err = capsys.readouterr()
        error = json.loads(out)["error"]
        assert set(error) == {"code", "message", "subject", "hint", "exit_code"}
        assert error["exit_code"] == code
        return error, err

    return call


@pytest.mark.parametrize(
    ("words", "command", "said"),
    [
        (["protect"], "leeward protect", "Missing argument"),
        (["status", "--jso"], "leeward status", "No such option: --jso"),
        (["points", "web", "--limit", "many"], "leeward points", "Invalid value for '--limit'"),
        (["failover", "backwards"], "leeward failover", "No such command 'backwards'"),
        (["nonsense"], "leeward", "No such command 'nonsense'"),
        (["lab", "status", "--fast"], "leeward lab status", "No such option: --fast"),
    ],
)
def test_wrong_usage(failed, words, command, said):
    error, err = failed(*words)
    assert (error["code"], error["subject"], error["exit_code"]) == ("bad-input", command, 2)
    assert said in error["message"]
    assert error["hint"] == f"See `{command} --help`"
    assert said in err


def test_a_bug_of_ours(failed, monkeypatch):
    monkeypatch.setattr(vaults, "read_passphrase", lambda *_, **__: 1 / 0)
    error, err = failed("vault", "init")
    assert (error["code"], error["exit_code"]) == ("internal", 70)
    assert "ZeroDivisionError" in error["message"]
    assert "leeward-crash-" in error["hint"]
    assert "Internal error" in err


def test_an_interruption(failed, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(vaults, "read_passphrase", interrupted)
    error, _ = failed("vault", "init")
    assert (error["code"], error["exit_code"]) == ("interrupted", 130)


def test_the_lab(failed, monkeypatch):
    monkeypatch.setenv("LEEWARD_LAB", "not/absolute")
    error, err = failed("lab", "status")
    assert (error["code"], error["exit_code"]) == ("bad-input", 2)
    assert err.startswith("Error: not/absolute: ")
    assert failed("lab", "scenario", "no-such-one")[0]["exit_code"] == 3


def test_a_console_that_is_not_there_is_told_without_the_systems_numbers(failed):
    error, err = failed("--console", "localhost:1", "status")
    assert error["message"] == "the console does not answer: Connection refused"
    assert "Errno" not in err
