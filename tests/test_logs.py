"""What the log writes, where, and from which level on."""

import io
import json

import pytest
import structlog  # noqa: TID251 - to leave it as it was

from leeward.logs import Log


@pytest.fixture(autouse=True)
def untouched():
    yield
    structlog.reset_defaults()


def test_json_lines_with_level_time_and_facts():
    stream, log = io.StringIO(), Log()
    log.to_json(stream, verbose=False)
    log.debug("too fine")
    log.info("hello", vm="web")
    log.warning("careful")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("hello", "info"), ("careful", "warning")]
    assert lines[0]["vm"] == "web"
    assert lines[0]["timestamp"].endswith("Z")


def test_verbose_tells_all():
    stream, log = io.StringIO(), Log()
    log.to_json(stream, verbose=True)
    log.debug("fine")
    assert json.loads(stream.getvalue())["level"] == "debug"


def test_an_exception_brings_its_traceback():
    stream, log = io.StringIO(), Log()
    log.to_json(stream, verbose=False)
    try:
        int("odd")
    except ValueError:
        log.exception("failed", vm="web")
    line = json.loads(stream.getvalue())
    assert "ValueError: invalid literal" in line["exception"]
    assert line["level"] == "error"


def test_quiet_means_errors_on_stderr_only(capsys):
    log = Log()
    log.quiet()
    log.warning("not seen")
    log.error("seen")
    told = capsys.readouterr()
    assert told.out == ""
    assert "seen" in told.err
    assert "not seen" not in told.err


def test_what_is_set_last_counts(capsys):
    stream, log = io.StringIO(), Log()
    log.quiet()
    log.error("first")
    log.to_json(stream, verbose=False)
    log.info("second")
    assert json.loads(stream.getvalue())["event"] == "second"
    assert "first" in capsys.readouterr().err
