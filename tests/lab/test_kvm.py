"""A /dev/kvm that is there proves nothing: what counts is a probe guest that has booted. QEMU is a stand-in."""

import json

import pytest

from leeward.lab import kvm

BOOTS = "echo LEEWARD-PROBE-BOOTED"
REFUSES = "echo 'failed to initialize kvm: Permission denied' >&2; exit 1"
# Nested KVM on some hosts: the guest's CPU never gets anywhere.
HANGS = "sleep 60"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(what QEMU does) → the cache folder; how often it was started is in `calls`."""
    device = tmp_path / "kvm"
    device.touch(0o666)
    device.chmod(0o666)
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setattr(kvm, "DEVICE", device)
    monkeypatch.setattr(kvm, "_PATIENCE_S", 1)
    monkeypatch.setattr(kvm.tiny, "boot_probe", lambda cache: (cache / "kernel", cache / "initrd"))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def make(does):
        program = programs / "qemu-system-x86_64"
        program.write_text(f"#!/bin/sh\necho x >> {tmp_path}/calls\n{does}\n")
        program.chmod(0o755)
        return tmp_path

    return make


def starts(folder):
    calls = folder / "calls"
    return len(calls.read_text().split()) if calls.exists() else 0


@pytest.mark.parametrize(("does", "usable"), [(BOOTS, True), (REFUSES, False), (HANGS, False)])
def test_only_a_guest_that_boots_proves_it_and_is_asked_once_a_boot(machine, does, usable):
    cache = machine(does)
    assert kvm.usable(cache) is usable
    assert kvm.usable(cache) is usable
    assert starts(cache) == 1


def test_what_was_found_before_this_machine_was_started_does_not_count(machine):
    cache = machine(BOOTS)
    (cache / "kvm.json").write_text(json.dumps({"boot": "an earlier one", "usable": False}))
    assert kvm.usable(cache)
    assert starts(cache) == 1


def test_a_device_that_is_not_there_or_is_roots_alone_is_not_tried(machine):
    cache = machine(BOOTS)
    kvm.DEVICE.chmod(0o600)
    assert not kvm.usable(cache)
    kvm.DEVICE.unlink()
    assert not kvm.usable(cache)
    assert starts(cache) == 0
