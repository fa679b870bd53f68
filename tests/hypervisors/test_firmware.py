"""UEFI variables and TPM state are found where libvirt keeps them, and never taken for gone when they are hidden."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from leeward.domain.errors import HypervisorError
from leeward.domain.vm import FirmwareState
from leeward.hypervisors.libvirt import domain_xml, firmware
from leeward.hypervisors.libvirt.daemon_files import DaemonFiles
from leeward.hypervisors.libvirt.firmware import FirmwareReader

VM = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11"
LOADER = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"


class Here(DaemonFiles):
    """A daemon whose root is a folder."""

    def __init__(self, root):
        super().__init__("qemu:///system")
        self.root = root

    def path(self, named):
        return self.root / str(named).lstrip("/")


@pytest.fixture
def reader(tmp_path):
    return FirmwareReader(Here(tmp_path))


@pytest.fixture
def put(tmp_path):
    def write(path, data):
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    return write


def domain(system="", devices="", attributes=""):
    text = (
        f"<domain><name>web</name><os{attributes}><type>hvm</type>{system}</os><devices>{devices}</devices></domain>"
    )
    return domain_xml.parse(text)


STORE = domain(f"{LOADER}<nvram template='/t.fd'>/nv/web.fd</nvram>")
TPM = domain(devices="<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>")
TPM_FILE = f"/var/lib/libvirt/swtpm/{VM}/tpm2/tpm2-00.permall"


# --- what the definition says ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xml", "nvram", "uefi"),
    [
        (domain(), "", False),
        (STORE, "/nv/web.fd", False),
        (domain("<nvram type='file'><source file='/nv/new.fd'/></nvram>"), "/nv/new.fd", False),
        (domain("<nvram template='/t.fd'/>"), "", False),
        (domain(attributes=" firmware='efi'"), "", True),
        (domain("<nvram>/nv/x.fd</nvram>", attributes=" firmware='efi'"), "/nv/x.fd", True),
        (domain("<loader stateless='yes'/>", attributes=" firmware='efi'"), "", False),
        (domain(attributes=" firmware='bios'"), "", False),
    ],
)
def test_where_the_variables_are(xml, nvram, uefi):
    assert (xml.nvram, xml.uefi) == (nvram, uefi)


def test_which_tpm_there_is():
    assert domain().tpm is None
    assert domain(devices="<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>").tpm is None
    assert (TPM.tpm.version, TPM.tpm.folder, TPM.tpm.trouble) == ("2.0", "", "")
    named = "<tpm><backend type='emulator' version='2.0'><source type='dir' path='/my/tpm'/></backend></tpm>"
    assert domain(devices=named).tpm.folder == "/my/tpm"
    locked = "<tpm><backend type='emulator' version='2.0'><encryption secret='x'/></backend></tpm>"
    assert "encrypted" in domain(devices=locked).tpm.trouble


# --- reading --------------------------------------------------------------------------------------------


def test_a_vm_without_firmware_state_has_none_for_certain(reader):
    assert reader.read(VM, domain(), running=True) == (FirmwareState(), [])


def test_variables_and_tpm_are_read(reader, put):
    put("/nv/web.fd", b"variables")
    put(TPM_FILE, b"seeds")
    put(TPM_FILE.replace("permall", "savestate"), b"saved")
    put(TPM_FILE.replace("tpm2-00.permall", ".lock"), b"")
    put(TPM_FILE.replace("tpm2-00", "TMP2-00"), b"half")
    both = domain(f"{LOADER}<nvram>/nv/web.fd</nvram>", "<tpm><backend type='emulator' version='2.0'/></tpm>")
    expected = FirmwareState(b"variables", (("tpm2-00.permall", b"seeds"), ("tpm2-00.savestate", b"saved")))
    assert reader.read(VM, both, running=True) == (expected, [])
    assert reader.read(VM, both, running=False) == (expected, [])


def test_a_tpm_1_2_and_a_named_folder_have_other_places(reader, put):
    put(f"/var/lib/libvirt/swtpm/{VM}/tpm1.2/tpm-00.permall", b"old")
    old = domain(devices="<tpm><backend type='emulator' version='1.2'/></tpm>")
    assert reader.read(VM, old, running=True)[0].tpm == (("tpm-00.permall", b"old"),)
    put("/my/tpm/tpm2-00.permall", b"mine")
    named = domain(devices="<tpm><backend type='emulator'><source type='dir' path='/my/tpm'/></backend></tpm>")
    assert reader.read(VM, named, running=True)[0].tpm == (("tpm2-00.permall", b"mine"),)


def test_a_store_that_libvirt_chose_is_found_when_it_is_not_named(reader, put):
    chosen = domain(attributes=" firmware='efi'")
    put("/var/lib/libvirt/qemu/nvram/web_VARS.fd", b"chosen")
    assert reader.read(VM, chosen, running=False)[0].nvram == b"chosen"


@pytest.mark.parametrize("xml", [STORE, TPM])
def test_files_that_are_missing_are_no_state_before_the_first_start_and_unknown_after_it(reader, xml):
    assert reader.read(VM, xml, running=False) == (FirmwareState(), [])
    state, warnings = reader.read(VM, xml, running=True)
    assert state is None
    assert "cannot be read" in warnings[0]


def test_a_place_that_was_guessed_wrongly_says_nothing(reader):
    state, warnings = reader.read(VM, domain(attributes=" firmware='efi'"), running=False)
    assert state is None
    assert "web_VARS.fd" in warnings[0]


def test_an_encrypted_tpm_is_told_and_does_not_hide_the_variables(reader, put):
    put("/nv/web.fd", b"variables")
    locked = "<tpm><backend type='emulator' version='2.0'><encryption secret='x'/></backend></tpm>"
    state, warnings = reader.read(VM, domain("<nvram>/nv/web.fd</nvram>", locked), running=True)
    assert state == FirmwareState(b"variables")
    assert "encrypted" in warnings[0]


def test_what_is_too_large_is_not_carried_each_cycle(reader, put, monkeypatch):
    monkeypatch.setattr(firmware, "_LARGEST", 1 << 20)
    put("/nv/web.fd", bytes((1 << 20) + 1))
    state, warnings = reader.read(VM, STORE, running=True)
    assert state is None
    assert "larger than 1 MiB" in warnings[0]


def test_a_file_that_changes_while_it_is_read_is_read_again(reader, put, monkeypatch):
    """What two readings agree on stood still meanwhile: it is as after a power cut, which firmware is made for."""
    file = put("/nv/web.fd", b"")
    readings = iter([b"old", b"o--", b"new", b"new"])

    def read(path):
        assert path == file
        return next(readings)

    monkeypatch.setattr(firmware, "_contents", read)
    assert reader.read(VM, STORE, running=True)[0].nvram == b"new"
    readings = (bytes([number]) for number in range(100))
    state, warnings = reader.read(VM, STORE, running=True)
    assert state is None
    assert "too fast" in warnings[0]


def test_the_mark_follows_the_state(reader, put):
    file = put("/nv/web.fd", b"one")
    mark = reader.mark(VM, STORE)
    assert reader.mark(VM, STORE) == mark
    file.write_bytes(b"two")
    assert reader.mark(VM, STORE) != mark


# --- whose files ----------------------------------------------------------------------------------------

LISTEN = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def daemon(tmp_path):
    """daemon() → a process that listens on the socket; the one before is ended."""
    path, alive = tmp_path / "sock", []

    def start():
        while alive:
            alive[-1].kill()
            alive.pop().wait()
        path.unlink(missing_ok=True)
        command = [sys.executable, "-c", LISTEN, str(path)]
        alive.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert alive[0].stdout.readline() == "ready\n"
        alive[0].stdout.close()
        return alive[0].pid

    yield start
    for process in alive:
        process.kill()
        process.wait()


def test_a_daemon_of_the_usual_socket_sees_what_we_see():
    assert str(DaemonFiles("qemu:///system").path("/nv/web.fd")) == "/nv/web.fd"


def test_a_daemon_with_a_socket_of_its_own_is_asked_through_its_process(daemon, tmp_path):
    files = DaemonFiles(f"qemu+unix:///system?socket={tmp_path}/sock")
    first = daemon()
    assert str(files.path("/nv/web.fd")) == f"/proc/{first}/root/nv/web.fd"
    (tmp_path / "file").write_bytes(b"there")
    assert files.path(tmp_path / "file").read_bytes() == b"there"
    second = daemon()
    assert str(files.path("/nv/web.fd")) == f"/proc/{second}/root/nv/web.fd"


def test_a_dead_daemon_that_nobody_has_taken_note_of_is_not_asked_for_its_folders(daemon, tmp_path):
    """Its process is still told of, but has no root any more: each VM seemed to have just ended."""
    files = DaemonFiles(f"qemu+unix:///system?socket={tmp_path}/sock")
    first = daemon()
    files.path("/nv/web.fd")
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    (tmp_path / "sock").unlink()
    with subprocess.Popen([sys.executable, "-c", LISTEN, str(tmp_path / "sock")], stdout=subprocess.PIPE) as second:
        assert second.stdout.readline() == b"ready\n"
        assert str(files.path("/nv/web.fd")) == f"/proc/{second.pid}/root/nv/web.fd"
        second.kill()


def test_a_daemon_that_is_not_there_is_told(tmp_path):
    files = DaemonFiles(f"qemu+unix:///system?socket={tmp_path}/absent")
    with pytest.raises(HypervisorError, match="does not answer"):
        files.path("/x")
    state, warnings = FirmwareReader(files).read(VM, STORE, running=True)
    assert state is None
    assert warnings


def test_a_daemon_of_one_user_has_its_folders_at_home(monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/a/conf")
    files = DaemonFiles("qemu:///session")
    assert str(files.tpm_folder(VM, "2.0")) == f"/home/a/conf/libvirt/qemu/swtpm/{VM}/tpm2"
    assert str(files.variable_store("web")) == "/home/a/conf/libvirt/qemu/nvram/web_VARS.fd"


def test_the_credentials_are_those_of_this_machine():
    """What `_owner` relies on: the kernel tells who listens."""
    with socket.socketpair()[0] as end:
        found = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert int.from_bytes(found[:4], sys.byteorder) == os.getpid()
