"""Folders that another user can pass through."""

import os
import subprocess

import pytest
from tests.anyone import let_pass

from leeward.domain.errors import HypervisorError
from leeward.hypervisors.libvirt.qemu_user import parse_user
from leeward.hypervisors.passage import make_way
from leeward.ports.hypervisor import Owner

NOBODY = Owner(65534, 65534)


@pytest.fixture
def top(tmp_path):
    return let_pass(tmp_path)


def test_what_is_missing_is_made_passable_whatever_the_umask(top):
    before = os.umask(0o077)
    try:
        make_way(top / "a" / "b", NOBODY)
    finally:
        os.umask(before)
    assert [(top / "a").stat().st_mode & 0o777, (top / "a" / "b").stat().st_mode & 0o777] == [0o711, 0o711]
    make_way(top / "a" / "b", NOBODY)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_the_other_user_really_gets_through(top):
    make_way(top / "a", NOBODY)
    (top / "a" / "file").write_text("there")
    (top / "a" / "file").chmod(0o644)
    done = subprocess.run(["cat", top / "a" / "file"], user=NOBODY.uid, group=NOBODY.gid, capture_output=True)
    assert done.stdout == b"there", done.stderr


def test_a_closed_folder_above_is_named(top):
    (top / "closed").mkdir(mode=0o700)
    with pytest.raises(HypervisorError) as caught:
        make_way(top / "closed" / "a", NOBODY)
    assert caught.value.subject == str(top / "closed")
    assert f"chmod o+x {top / 'closed'}" in caught.value.hint
    make_way(top / "closed" / "a", Owner(os.geteuid(), os.getegid()))


def test_who_runs_qemu_is_read_from_the_capabilities():
    label = "<secmodel><model>{}</model><doi>0</doi><baselabel type='kvm'>{}</baselabel></secmodel>"
    told = "<capabilities><host>{}</host></capabilities>"
    apparmor = label.format("apparmor", "x")
    assert parse_user(told.format(apparmor + label.format("dac", "+64055:+107"))) == Owner(64055, 107)
    assert parse_user(told.format(apparmor)) == Owner(os.geteuid(), os.getegid())
    assert parse_user(told.format(label.format("dac", ""))) == Owner(os.geteuid(), os.getegid())
