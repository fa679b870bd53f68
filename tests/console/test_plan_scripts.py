"""Scripts of plans: real processes."""

import os
import subprocess
import sys
import threading
import time

import pytest
from tests.console.stand import until

from leeward.console.plan_scripts import Call, Scripts, _calls, none_running
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused
from leeward.orchestrator.plan_ground import Interrupted


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scripts").mkdir(mode=0o700)
    return tmp_path / "scripts"


def write(folder, text, name="x.sh", mode=0o755):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def call(*arguments, file="x.sh", timeout_s=20.0, **facts):
    return Call(f"plan-1/1/{time.monotonic_ns()}", file, arguments, timeout_s, facts)


def test_arguments_reach_the_script_as_they_are_and_its_environment_is_small(folder, monkeypatch):
    monkeypatch.setenv("SECRET", "of the console")
    write(folder, 'printf "%s|" "$@"; env | sort; echo to stderr >&2')
    ended = Scripts(folder).run(call("a b", "$HOME; rm -rf /", "*", LEEWARD_PLAN="shop"), again=False)
    assert (ended.well, ended.detail) == (True, "x.sh ended well")
    assert ended.output.startswith("a b|$HOME; rm -rf /|*|")
    assert "LEEWARD_PLAN=shop" in ended.output
    assert "LEEWARD_AGAIN=0" in ended.output
    assert "to stderr" in ended.output
    assert "SECRET" not in ended.output


def test_only_the_end_of_a_long_output_is_kept(folder):
    write(folder, "head -c 3000000 /dev/zero | tr '\\0' x; echo the end")
    ended = Scripts(folder).run(call(), again=False)
    assert ended.output.endswith("xthe end")
    assert len(ended.output) <= 4096


def test_how_it_ended_is_told(folder):
    scripts = Scripts(folder)
    write(folder, "exit 3")
    assert scripts.run(call(), again=False).detail == "x.sh ended with code 3"
    write(folder, "kill -9 $$")
    assert scripts.run(call(), again=False).detail == "x.sh was killed by signal 9"
    (folder / "x.sh").write_text("#!/no/such/shell\n")
    assert "cannot be run: No such file" in scripts.run(call(), again=False).detail


def test_time_runs_out_for_the_script_and_what_it_started(folder):
    write(folder, "sleep 60 & echo waiting; wait")
    wanted = call(timeout_s=0.3)
    ended = Scripts(folder).run(wanted, again=False)
    assert (ended.well, ended.detail, ended.output) == (False, "x.sh did not end within 0.3 s", "waiting")
    assert _calls(wanted.id) == []


def test_a_child_that_lives_on_is_not_waited_for(folder):
    write(folder, "setsid sleep 30 & echo done")
    wanted = call()
    began = time.monotonic()
    assert Scripts(folder).run(wanted, again=False).well
    assert time.monotonic() - began < 10
    (left,) = _calls(wanted.id)
    os.kill(left, 9)


def test_a_console_that_stops_ends_its_script(folder):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    write(folder, "sleep 60")
    wanted = call()
    with pytest.raises(Interrupted):
        Scripts(folder, stop.is_set).run(wanted, again=False)
    ends = time.monotonic() + 5  # what was killed is listed until its parent has taken note
    while _calls(wanted.id) and time.monotonic() < ends:
        time.sleep(0.05)
    assert _calls(wanted.id) == []


def test_what_a_killed_console_left_running_is_ended_before_it_is_run_again(folder, tmp_path):
    write(folder, f"echo $LEEWARD_AGAIN >>{tmp_path}/out; [ $LEEWARD_AGAIN = 1 ] || sleep 60")
    code = f"""
from pathlib import Path
from leeward.console.plan_scripts import Call, Scripts
Scripts(Path({str(folder)!r})).run(Call("plan-9/1/x", "x.sh", (), 60.0, {{}}), again=False)
"""
    console = subprocess.Popen([sys.executable, "-c", code])
    ends = time.monotonic() + 20
    while not (tmp_path / "out").exists():
        assert time.monotonic() < ends
        time.sleep(0.02)
    console.kill()
    console.wait()
    assert _calls("plan-9/1/x")
    ended = Scripts(folder).run(Call("plan-9/1/x", "x.sh", (), 60.0, {}), again=True)
    assert ended.well
    assert (tmp_path / "out").read_text().split() == ["0", "1"]
    while _calls("plan-9/1/x"):  # killed, and about to be gone
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("file", "error", "says"),
    [
        ("../x.sh", BadInput, "without a path"),
        ("/bin/sh", BadInput, "without a path"),
        ("..", BadInput, "without a path"),
        ("absent.sh", NotFound, "no such script"),
        ("link.sh", Refused, "plain file"),
        ("folder", Refused, "plain file"),
        ("open.sh", Refused, "others can change"),
        ("text.sh", Refused, "cannot be executed"),
    ],
)
def test_only_what_lies_in_the_folder_and_is_safe_can_be_run(folder, file, error, says):
    (folder / "link.sh").symlink_to("/bin/sh")
    (folder / "folder").mkdir()
    write(folder, "", "open.sh", 0o777)
    write(folder, "", "text.sh", 0o644)
    with pytest.raises(error, match=says):
        Scripts(folder).path(file)
    with pytest.raises(LeewardError):
        Scripts(folder).run(call(file=file), again=False)


def test_a_console_that_must_stop_at_once_leaves_no_script_running(folder):
    """Also not what the script has started."""
    write(folder, "sleep 60 & echo $! > pids; sleep 60")
    ended, wanted = [], call()
    thread = threading.Thread(target=lambda: ended.append(Scripts(folder).run(wanted, again=False)))
    thread.start()
    until(lambda: (folder / "pids").exists() and len(_calls(wanted.id)) == 3)
    late = threading.Thread(target=lambda: ended.append(Scripts(folder).run(call(file="late.sh"), again=False)))
    write(folder, "touch begun", "late.sh")
    with none_running():
        thread.join(10)
        assert ended[0].detail == "x.sh was killed by signal 9"
        until(lambda: not _calls(wanted.id))
        late.start()
        late.join(0.3)
        assert not (folder / "begun").exists()
    late.join(10)
    assert ended[1].well
