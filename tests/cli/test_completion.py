"""What the shell offers where names are typed: what the console that would be asked knows."""

import os
import socket
import subprocess
import sys
import time

import pytest

from leeward.console.views import ProtectRequest

# Real time: not for the fast suite.
pytestmark = pytest.mark.slow


@pytest.fixture
def offered(run):
    """offered("failover test w") → what may stand at its end, as bash is told."""

    def complete(line, **more):
        line = f"leeward {line}"
        environment = {**os.environ, "_LEEWARD_COMPLETE": "complete_bash", "COMP_WORDS": line, **more}
        environment["COMP_CWORD"] = str(len(line.split(" ")) - 1)
        command = [sys.executable, "-m", "leeward.cli.main"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return set(done.stdout.split())

    return complete


def test_names_of_vms_hosts_points_and_disks(offered, world):
    world.service.protect("web", ProtectRequest(rpo_s=3600))
    newest = world.wait(lambda: world.service.status("web")[0].last_point).id
    for command in ("protect", "status", "points", "failover test", "failover history", "export", "vault prune"):
        assert offered(f"{command} ") == {"web"}, command
        assert offered(f"{command} x") == set(), command
    assert offered("failover planned web --to ") == {"recovery"}
    assert offered("failover failback web --to ") == {"office", "recovery"}
    assert offered("protect web --warm-host r") == {"recovery"}
    assert offered("host remove o") == {"office"}
    for command in ("failover test", "failover unplanned", "failover failback", "export"):
        assert offered(f"{command} web --point ") == {"latest", "app", newest}, command
    assert offered("export web --disk ") == {"vda", "vdb"}
    assert offered("failover test nobody --point ") == {"latest", "app"}


def test_options_before_the_command_count(offered, config):
    at = config.rename(config.with_name("elsewhere.toml"))
    assert offered(f"--config {at} status ", LEEWARD_CONFIG="") == {"web"}
    assert offered("--console https://127.0.0.1:1 status ") == set()


def test_a_console_that_does_not_answer_keeps_nobody_waiting(offered):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        console = f"https://127.0.0.1:{silent.getsockname()[1]}"
        assert offered("status ", LEEWARD_CONSOLE=console) == set()
        assert time.monotonic() - began < 20  # it takes two of them, and this machine may be busy
