"""The state of a copy's firmware is in place before its first start, whole or not at all, and goes with the copy."""

import shutil
from xml.etree import ElementTree as ET

import pytest

from leeward.domain.vm import FirmwareState
from leeward.hypervisors.libvirt.daemon_files import DaemonFiles
from leeward.recovery.libvirt.firmware import FirmwarePlacer, Placed, at_home, carry

ID = "0d9c8f3c-5d0f-4a53-9d0e-5a1f6f2f3b11"
TPM = "<devices><tpm model='tpm-crb'><backend type='emulator' version='2.0'>{}</backend></tpm></devices>"
DEFINITION = f"<domain><os><type>hvm</type><nvram>/nv/db.fd</nvram></os>{TPM.format('')}</domain>"
STATE = FirmwareState(b"variables", (("tpm2-00.permall", b"seeds"),))


class Elsewhere(DaemonFiles):
    def __init__(self, root):
        super().__init__("qemu:///system")
        self.root = root

    def path(self, named):
        return self.root / str(named).lstrip("/")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "daemon"


@pytest.fixture
def storage(tmp_path):
    folder = tmp_path / "storage"
    folder.mkdir()
    return folder


@pytest.fixture
def placer(root, storage):
    return FirmwarePlacer(storage, Elsewhere(root))


def tpm(root):
    return root / "var/lib/libvirt/swtpm" / ID / "tpm2"


def place(placer, state=STATE, definition=DEFINITION, tpm_possible=True):
    return placer.place("t1", ID, definition, state, tpm_possible=tpm_possible)


def carried(definition, placed):
    tree, warnings = ET.fromstring(definition), []
    carry(tree, placed, warnings)
    return tree, " / ".join(warnings)


def test_both_are_placed_and_removed(placer, root, storage):
    placed = place(placer)
    assert placed == Placed(str(storage / "t1.nvram.fd"), tpm=True)
    assert (storage / "t1.nvram.fd").read_bytes() == b"variables"
    assert (tpm(root) / "tpm2-00.permall").read_bytes() == b"seeds"
    assert tpm(root).stat().st_mode & 0o777 == 0o700
    placer.remove("other")
    assert tpm(root).exists()
    placer.remove("t1")
    assert not any(storage.iterdir())
    assert not tpm(root).parent.exists()
    placer.remove("t1")


def test_what_the_copy_has_written_meanwhile_is_kept(placer, root, storage):
    place(placer)
    (storage / "t1.nvram.fd").write_bytes(b"changed by the copy")
    (tpm(root) / "tpm2-00.permall").write_bytes(b"too")
    assert place(placer).tpm
    assert (storage / "t1.nvram.fd").read_bytes() == b"changed by the copy"
    assert (tpm(root) / "tpm2-00.permall").read_bytes() == b"too"


def test_half_a_tpm_of_a_dead_run_is_not_taken_for_whole(placer, root):
    draft = tpm(root).with_name("tpm2.new")
    draft.mkdir(parents=True)
    (draft / "tpm2-00.junk").write_bytes(b"half")
    assert place(placer).tpm
    assert [path.name for path in tpm(root).iterdir()] == ["tpm2-00.permall"]
    assert not draft.exists()


def test_state_of_an_earlier_life_is_set_aside_not_used_and_not_deleted(placer, root):
    tpm(root).mkdir(parents=True)
    (tpm(root) / "tpm2-00.permall").write_bytes(b"somebody's")
    assert place(placer).tpm
    assert (tpm(root) / "tpm2-00.permall").read_bytes() == b"seeds"
    aside = tpm(root).parent.with_name(f"{ID}.before-t1")
    assert (aside / "tpm2/tpm2-00.permall").read_bytes() == b"somebody's"
    placer.remove("t1")
    assert not tpm(root).exists()
    assert aside.exists()


def test_what_was_set_aside_is_given_back_or_let_go(placer, root, storage):
    tpm(root).mkdir(parents=True)
    (tpm(root) / "tpm2-00.permall").write_bytes(b"at home")
    aside = tpm(root).parent.with_name(f"{ID}.before-t1")
    place(placer)
    for _ in range(2):
        placer.give_back("t1", ID)
        assert (tpm(root) / "tpm2-00.permall").read_bytes() == b"at home"
        assert not any(storage.iterdir())
        assert not aside.exists()
    place(placer)
    placer.keep("t1", ID)
    assert (tpm(root) / "tpm2-00.permall").read_bytes() == b"seeds"
    assert not aside.exists()


def test_a_giving_back_that_died_half_way_is_finished(placer, root):
    tpm(root).mkdir(parents=True)
    (tpm(root) / "tpm2-00.permall").write_bytes(b"at home")
    place(placer)
    shutil.rmtree(tpm(root).parent)
    placer.give_back("t1", ID)
    assert (tpm(root) / "tpm2-00.permall").read_bytes() == b"at home"


def test_a_definition_at_home_changes_only_where_its_state_is():
    system = "<os firmware='efi'><nvram template='/t.fd'>/nv/db.fd</nvram></os>"
    place = "<source type='dir' path='/my'/>"
    definition = f"<domain>{system}{TPM.format(place)}</domain>"
    told = ET.fromstring(at_home(definition, Placed("/new.fd", tpm=True)))
    assert told.findtext("os/nvram") == "/new.fd"
    assert told.find("devices/tpm/backend/source") is None
    same = ET.fromstring(at_home(definition, Placed()))
    assert same.findtext("os/nvram") == "/nv/db.fd"
    assert same.find("devices/tpm/backend/source") is not None


def test_nothing_is_placed_where_there_is_nothing(placer, root, storage):
    assert place(placer, FirmwareState()) == Placed()
    assert not any(storage.iterdir())
    assert not root.exists()


def test_a_host_without_tpm_emulator_is_told(placer, root):
    placed = place(placer, tpm_possible=False)
    assert not placed.tpm
    assert not root.exists()
    tree, warnings = carried(DEFINITION, placed)
    assert tree.find("devices/tpm") is None
    assert "lacks the TPM: the recovery host has no TPM emulator" in warnings


def test_a_tpm_that_cannot_be_placed_does_not_stop_the_recovery(placer, root):
    root.mkdir()
    (root / "var").write_text("in the way")
    placed = place(placer)
    assert placed.nvram
    assert "cannot be put in place" in placed.no_tpm


def test_names_from_the_vault_lead_nowhere_else(placer, root, tmp_path):
    assert place(placer, FirmwareState(tpm=(("../../../escaped", b"x"),))).tpm
    assert [path.name for path in tpm(root).iterdir()] == ["escaped"]
    assert list(tmp_path.rglob("escaped")) == [tpm(root) / "escaped"]


# --- the definition -------------------------------------------------------------------------------------


def test_the_copy_uses_its_own_store_and_nothing_of_the_originals():
    old = "<nvram template='/t.fd' format='raw' type='file'><source file='/nv/db.fd'/></nvram>"
    definition = f"<domain><os firmware='efi'>{old}</os></domain>"
    tree, warnings = carried(definition, Placed("/images/t1.nvram.fd"))
    nvram = tree.find("os/nvram")
    assert nvram.text == "/images/t1.nvram.fd"
    assert nvram.attrib == {"template": "/t.fd", "format": "raw"}
    assert len(nvram) == 0
    assert warnings == ""


def test_a_store_that_libvirt_chose_unnamed_is_named_for_the_copy():
    tree, warnings = carried("<domain><os firmware='efi'/></domain>", Placed("/images/t1.nvram.fd"))
    assert tree.findtext("os/nvram") == "/images/t1.nvram.fd"
    assert warnings == ""


@pytest.mark.parametrize("system", ["<os firmware='efi'/>", "<os><nvram format='raw'>/nv/db.fd</nvram></os>"])
def test_without_a_store_it_starts_from_the_template_and_says_so(system):
    tree, warnings = carried(f"<domain>{system}</domain>", Placed())
    assert tree.find("os/nvram") is None
    assert "template" in warnings


def test_a_bios_has_no_store():
    tree, warnings = carried("<domain><os><type>hvm</type></os></domain>", Placed("/images/t1.nvram.fd"))
    assert tree.find("os/nvram") is None
    assert warnings == ""


def test_a_carried_tpm_keeps_its_kind_and_lets_go_of_the_hosts_places():
    inside = (
        "<source type='dir' path='/my/tpm'/><encryption secret='x'/><active_pcr_banks><sha256/></active_pcr_banks>"
    )
    tree, warnings = carried(f"<domain>{TPM.format(inside)}</domain>", Placed(tpm=True))
    backend = tree.find("devices/tpm/backend")
    assert backend.get("version") == "2.0"
    assert [child.tag for child in backend] == ["active_pcr_banks"]
    assert warnings == ""


def test_a_tpm_of_the_host_itself_is_left_behind():
    host = "<devices><tpm><backend type='passthrough'/></tpm></devices>"
    tree, warnings = carried(f"<domain>{host}</domain>", Placed(tpm=True))
    assert tree.find("devices/tpm") is None
    assert "lacks the TPM" in warnings
