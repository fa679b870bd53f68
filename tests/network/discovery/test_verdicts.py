"""Which signs mean what."""

from dataclasses import replace

import pytest

from leeward.network.discovery.signs import DOORS, LibvirtFacts, Sign, Speech, printable
from leeward.network.discovery.verdicts import Kind, judge

DOOR = {door.role.value: door for door in DOORS}
KVM = LibvirtFacts(auth=("none",), qemu=True, version=(9, 0, 0), qemu_version=(7, 2, 22))
SSH = Sign(DOOR["ssh"], Speech.SSH, "SSH-2.0-OpenSSH_9.2p1 Debian-2")
WINRM = Sign(DOOR["winrm"], Speech.WINRM, vendor="Microsoft Corporation")
CONSOLE = Sign(DOOR["vmconnect"], Speech.NOTHING, "open")


def libvirt(facts, role="libvirt"):
    return Sign(DOOR[role], Speech.LIBVIRT, libvirt=facts)


def test_an_open_libvirt_is_supported_and_a_danger():
    verdict = judge([libvirt(KVM)])
    assert (verdict.kind, verdict.supported, verdict.reason) == (Kind.KVM, True, "")
    assert verdict.what == "QEMU/KVM (libvirt 9.0.0, QEMU 7.2.22)"
    assert "Install the agent" in verdict.next_step
    assert "without encryption and without sign-in" in verdict.next_step
    assert "close port 16509" in verdict.next_step
    assert "by SSH" not in verdict.next_step
    assert "by SSH" in judge([SSH, libvirt(KVM)]).next_step


def test_over_tls_without_certificates_there_is_no_talk_of_encryption():
    verdict = judge([libvirt(KVM, "libvirt-tls")])
    assert verdict.supported is True
    assert "no certificate and no sign-in" in verdict.next_step
    assert "encryption" not in verdict.next_step


def test_the_door_that_tells_more_counts():
    shut = libvirt(LibvirtFacts(auth=("sasl",)))
    assert judge([shut, libvirt(KVM, "libvirt-tls")]).kind is Kind.KVM
    alone = judge([shut])
    assert (alone.kind, alone.supported) == (Kind.LIBVIRT, None)
    assert alone.what == "libvirt, which wants sign-in (SASL)"
    assert "without encryption: close port" in alone.next_step


def test_a_libvirt_that_told_little_is_still_a_libvirt():
    verdict = judge([libvirt(LibvirtFacts(auth=("none",)))])
    assert (verdict.kind, verdict.what, verdict.supported) == (Kind.LIBVIRT, "libvirt", None)
    assert "a way it does not name" in judge([libvirt(LibvirtFacts(auth=()))]).what


def test_libvirt_without_qemu_is_not_supported():
    verdict = judge([libvirt(LibvirtFacts(auth=("none",), qemu=False, refusal="no connection driver"))])
    assert (verdict.kind, verdict.supported) == (Kind.LIBVIRT, False)
    assert "no connection driver" in verdict.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [({"version": (7, 5, 9)}, "libvirt is too old"), ({"qemu_version": (6, 0, 1)}, "QEMU is too old")],
)
def test_versions_that_do_not_track_changes(change, words):
    verdict = judge([libvirt(replace(KVM, **change))])
    assert (verdict.kind, verdict.supported) == (Kind.KVM, False)
    assert words in verdict.reason


@pytest.mark.parametrize("change", [{"version": (7, 6, 0)}, {"qemu_version": (6, 1, 0)}, {"qemu_version": None}])
def test_versions_that_do(change):
    assert judge([libvirt(replace(KVM, **change))]).supported is True


def test_tls_on_libvirts_port_is_probably_libvirt():
    verdict = judge([Sign(DOOR["libvirt-tls"], Speech.TLS, certificate="CN=kvm01"), SSH])
    assert (verdict.kind, verdict.supported) == (Kind.LIBVIRT, None)
    assert "TLS server of CN=kvm01" in verdict.what
    assert "probably" in verdict.what
    assert "client certificate" in verdict.reason


def test_winrm_is_windows_and_not_yet_hyperv():
    verdict = judge([WINRM])
    assert (verdict.kind, verdict.supported) == (Kind.WINDOWS, False)
    assert verdict.what == "Windows with remote management"
    assert "Hyper-V is confirmed only after sign-in" in verdict.reason


def test_with_the_console_port_it_is_probably_hyperv():
    verdict = judge([WINRM, CONSOLE])
    assert (verdict.kind, verdict.supported) == (Kind.HYPERV, False)
    assert "probably Hyper-V" in verdict.what
    assert "confirmed only after sign-in" in verdict.reason


def test_a_banner_on_the_console_port_is_no_console():
    assert judge([WINRM, replace(CONSOLE, speech=Speech.SSH)]).kind is Kind.WINDOWS
    assert judge([WINRM, replace(CONSOLE, speech=Speech.OTHER)]).kind is Kind.WINDOWS


def test_the_console_port_alone_proves_little():
    verdict = judge([CONSOLE])
    assert verdict.kind is Kind.HYPERV
    assert "perhaps" in verdict.what
    assert judge([SSH, CONSOLE]).kind is Kind.SSH


def test_ws_management_of_another_vendor_is_not_windows():
    verdict = judge([replace(WINRM, vendor="Openwsman Project")])
    assert (verdict.kind, verdict.supported) == (Kind.OTHER, None)
    assert "Openwsman Project, not Windows" in verdict.what


def test_ssh_says_who_it_is():
    verdict = judge([SSH])
    assert (verdict.kind, verdict.supported) == (Kind.SSH, None)
    assert "(OpenSSH_9.2p1 Debian-2)" in verdict.what
    windows = judge([replace(SSH, words="SSH-2.0-OpenSSH_for_Windows_9.5")])
    assert (windows.kind, windows.what) == (Kind.WINDOWS, "Windows with an SSH server")


def test_what_accepts_everything_and_says_nothing_is_a_trap():
    signs = [Sign(door, Speech.NOTHING) for door in DOORS]
    assert "trap" in judge(signs).what
    assert "trap" in judge([replace(sign, speech=Speech.OTHER) for sign in signs]).what
    assert judge([*signs[:-1], WINRM]).kind is Kind.WINDOWS


def test_something_else_is_called_so():
    verdict = judge([Sign(DOOR["winrm"], Speech.HTTP, "HTTP 404 nginx"), Sign(DOOR["ssh"], Speech.OTHER)])
    assert verdict.kind is Kind.OTHER
    assert "open: 5985, 22" in verdict.what


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"SSH-2.0-x\r\n", "SSH-2.0-x"),
        (b"\x1b[31mred\x1b[0m\x07", "[31mred [0m"),
        ("a\u202eb\u200bc\x9b2J", "a b c 2J"),
        (b"\xff\xfe ok", "�� ok"),
        (b"x" * 5000, "x" * 200),
        (b" \n\t ", ""),
    ],
)
def test_words_of_strangers_are_made_safe_to_show(said, shown):
    assert printable(said) == shown
