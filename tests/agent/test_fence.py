"""The boot fence: the list that the agent keeps, and the script that libvirt asks before every start."""

import subprocess

import pytest

from leeward.agent.fence import Fence, hook_file, hook_state, hook_text, install_hook, remove_hook, renamed
from leeward.agent.ledger import Ledger, StandDown
from leeward.domain.errors import LeewardError

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
OTHER = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b12"
OFF = StandDown(VM, "web", "office", "it runs at recovery since 2026-11-24")


def xml(vm_id):
    note = "<title>&lt;uuid&gt;</title><metadata><uuid>00000000-0000-4000-8000-000000000000</uuid></metadata>"
    return f"<domain type='kvm' id='1'>\n  <name>web</name>\n  <uuid>{vm_id}</uuid>\n  {note}\n</domain>\n"


@pytest.fixture
def fence(tmp_path):
    return Fence(tmp_path / "lists of 'mine'", ["office"])


@pytest.fixture
def hooks(tmp_path, fence):
    assert install_hook(tmp_path / "hooks", fence.path("office"))
    return tmp_path / "hooks"


def start(hooks, vm_id=VM, operation="prepare", text=None):
    """What libvirt does before a start."""
    return subprocess.run(
        [hook_file(hooks), "web", operation, "begin", "-"],
        input=xml(vm_id) if text is None else text,
        capture_output=True,
        text=True,
        check=False,
    )


def hold(fence, *held):
    fence.keep([("office", vm_id, "it runs at recovery\nsince noon") for vm_id in held])


def test_only_who_is_listed_is_refused_and_is_told_why(fence, hooks):
    hold(fence, VM)
    done = start(hooks)
    assert done.returncode != 0
    assert "web off on this host: it runs at recovery since noon" in done.stderr
    assert "leeward failover failback web" in done.stderr
    assert start(hooks, OTHER).returncode == 0
    assert start(hooks, VM.upper()).returncode != 0
    hold(fence)
    assert start(hooks).returncode == 0


@pytest.mark.parametrize(
    "operation", ["start", "started", "stopped", "release", "migrate", "restore", "reconnect", "attach"]
)
def test_a_vm_that_runs_is_none_of_its_business(fence, hooks, operation):
    hold(fence, VM)
    assert start(hooks, operation=operation).returncode == 0


def test_without_a_list_or_a_definition_nobody_is_kept_off(fence, hooks):
    assert start(hooks).returncode == 0  # no list at all
    hold(fence, VM)
    for text in ("", "no xml", "<domain/>"):
        assert start(hooks, text=text).returncode == 0


def test_hosts_do_not_share_a_list(fence, hooks):
    fence.keep([("recovery", VM, "it runs at office")])
    assert start(hooks).returncode == 0
    assert fence.path("a/b") != fence.path("a") and fence.path("a/b").parent == fence.path("a").parent


def test_a_strange_file_in_its_place_is_left_alone(tmp_path, fence):
    file = hook_file(tmp_path)
    file.parent.mkdir()
    file.write_text("#!/bin/sh\n")
    for deed in (lambda: install_hook(tmp_path, fence.path("office")), lambda: remove_hook(tmp_path)):
        with pytest.raises(LeewardError, match="not Leeward's"):
            deed()
    assert file.read_text() == "#!/bin/sh\n"


def test_installing_and_removing_can_be_repeated(fence, hooks):
    path = fence.path("office")
    assert hook_state(hooks, path) == "installed"
    assert not install_hook(hooks, path)
    assert hook_state(hooks, fence.path("other")) == "other"
    assert install_hook(hooks, fence.path("other"))
    assert [file.name for file in hook_file(hooks).parent.iterdir()] == ["leeward"]
    assert remove_hook(hooks)
    assert not remove_hook(hooks)
    assert hook_state(hooks, path) == "missing"


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ({"office": "a"}, {"office": "a"}, {}),
        ({"office": "a"}, {"north": "a"}, {"office": "north"}),
        ({"office": "a", "main": "a"}, {"north": "a", "south": "b"}, {"office": "north", "main": "north"}),
        ({"office": "a"}, {"office": "b", "north": "a"}, {}),  # its own name counts
        ({"office": "a"}, {"north": "b"}, {}),
        ({"office": "a"}, {"north": "a", "south": "a"}, {}),  # nobody can tell
    ],
)
def test_a_host_of_another_name_is_known_by_its_libvirt(before, now, found):
    assert renamed(before, now) == found


def test_the_hook_of_a_host_that_comes_back_under_another_name_holds(tmp_path, fence, hooks):
    fence.know({"office": "qemu:///system"})
    ledger = Ledger(tmp_path / "agent.json", told(fence))
    ledger.stand_down(OFF)
    back = Fence(fence.path("office").parent)
    assert hook_state(hooks, back.path("north")) == "other"
    assert back.know({"north": "qemu:///system"}) == {"office": "north"}
    ledger = Ledger(tmp_path / "agent.json", told(back))
    ledger.take_over({"office": "north"})
    assert [(off.host, off.vm_id) for off in ledger.standdowns()] == [("north", VM)]
    assert start(hooks).returncode != 0
    ledger.stand_down(StandDown(OTHER, "app", "north", "it runs at recovery"))
    assert start(hooks, OTHER).returncode != 0
    # As after a start of the agent.
    again = Fence(fence.path("office").parent)
    again.know({"north": "qemu:///system"})
    ledger = Ledger(tmp_path / "agent.json", told(again))
    assert start(hooks, OTHER).returncode != 0
    ledger.stand_up(OTHER, "north")
    ledger.stand_up(VM, "north")
    assert [start(hooks, vm_id).returncode for vm_id in (VM, OTHER)] == [0, 0]
    paths = [again.path("north"), *(again.path(old) for old in again.former({"north": "qemu:///system"}))]
    assert hook_state(hooks, *paths) == "installed"


def test_addresses_that_cannot_be_read_or_written_keep_nobody_from_anything(tmp_path, fence):
    fence.know({"office": "a"})
    (fence.path("office").parent / "hosts.json").write_text("[")
    assert Fence(fence.path("office").parent).know({"north": "a"}) == {}
    (tmp_path / "file").write_text("")
    assert Fence(tmp_path / "file" / "lists").know({"office": "a"}) == {}


def test_it_is_a_plain_shell_script(fence, tmp_path):
    script = tmp_path / "hook"
    script.write_text(hook_text(fence.path("office")))
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0


# --- the ledger tells it ------------------------------------------------------------------------------


def told(fence):
    return lambda held: fence.keep((off.host, off.vm_id, off.reason) for off in held)


def test_a_stand_down_is_in_the_list_until_the_vm_may_run_again(tmp_path, fence, hooks):
    ledger = Ledger(tmp_path / "agent.json", told(fence))
    ledger.stand_down(OFF)
    assert start(hooks).returncode != 0
    Ledger(tmp_path / "agent.json", told(Fence(fence.path("office").parent, ["office"])))
    assert start(hooks).returncode != 0
    ledger.stand_up(VM, "office")
    assert start(hooks).returncode == 0


def test_killed_in_between_the_list_keeps_one_off_too_long_and_never_too_short(tmp_path, fence, hooks):
    class Killed(BaseException):
        pass

    def dying():
        raise Killed

    ledger = Ledger(tmp_path / "agent.json", told(fence))
    ledger._write = dying
    with pytest.raises(Killed):
        ledger.stand_down(OFF)
    assert start(hooks).returncode != 0  # refused already, though nothing has been written down
    # The next start knows of no stand-down, and says so.
    ledger = Ledger(tmp_path / "agent.json", told(Fence(fence.path("office").parent, ["office"])))
    assert start(hooks).returncode == 0
    ledger.stand_down(OFF)
    ledger._write = dying
    with pytest.raises(Killed):
        ledger.stand_up(VM, "office")
    assert start(hooks).returncode != 0
    # It is written down that it stands down still; taken back once more, it may start.
    ledger = Ledger(tmp_path / "agent.json", told(Fence(fence.path("office").parent, ["office"])))
    assert start(hooks).returncode != 0
    ledger.stand_up(VM, "office")
    assert start(hooks).returncode == 0


def test_a_list_that_cannot_be_written_keeps_the_vm_off_by_the_guard_and_does_not_let_it_home(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    fence = Fence(blocked / "lists")
    ledger = Ledger(tmp_path / "agent.json", told(fence))
    ledger.stand_down(OFF)
    assert ledger.standdown(VM, "office") is not None
    fence._written["office"] = "something"
    with pytest.raises(LeewardError, match="cannot be written"):
        ledger.stand_up(VM, "office")
