"""Answers that somebody types at a question."""

import io
import sys

import pytest

from leeward.cli.confirming import Declined, confirm


def typed(monkeypatch, given):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))


def test_what_is_no_text_is_no_yes(monkeypatch, capsys):
    typed(monkeypatch, b"\xff\ny\n")
    with pytest.raises(Declined):
        confirm("All of it is deleted")
    assert capsys.readouterr().err.count("Go on?") == 1


@pytest.mark.parametrize(("given", "agreed"), [(b"Y\n", True), (b"x\nyes\n", True), (b"\n", False), (b"", False)])
def test_only_a_yes_is_one(monkeypatch, given, agreed):
    typed(monkeypatch, given)
    if agreed:
        confirm("All of it is deleted")
    else:
        with pytest.raises(Declined):
            confirm("All of it is deleted")
