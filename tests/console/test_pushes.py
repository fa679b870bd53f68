"""What is sent to a host that gets an agent, and how many get one at once."""

import tarfile
from io import BytesIO

import pytest

from leeward.console.pushes import Push, Pushes, packed, source_root
from leeward.domain.errors import Refused


def test_what_is_sent_is_what_a_host_needs():
    names = tarfile.open(fileobj=BytesIO(packed(source_root()))).getnames()  # noqa: SIM115
    for name in ("Makefile", "requirements.lock", "src/leeward/cli/main.py", "packaging/leeward-agent.service"):
        assert name in names
    assert not [name for name in names if name.startswith((".git", ".venv", "tests")) or "__pycache__" in name]


def test_one_installation_a_host_at_once_and_few_in_all(monkeypatch):
    pushes = Pushes()
    monkeypatch.setattr("leeward.console.pushes.threading.Thread", Never)
    for address in "abcd":
        pushes.start(address, [("Sign in to the host", lambda tell: None)])
    with pytest.raises(Refused, match="there already"):
        pushes.start("a", [])
    with pytest.raises(Refused, match="several hosts"):
        pushes.start("e", [])
    pushes._pushes["a"] = Push((), state="failed")
    pushes.start("a", [])


class Never:
    """A thread that is never carried out: its host is slow."""

    def __init__(self, **how):
        pass

    def start(self):
        pass
