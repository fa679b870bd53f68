"""Faults of the vault and of disks as an operator meets them: one line that says what to do, the documented exit
code, and nothing lost. The vault is real; of hosts and daemons there are none."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.commands import leeward
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen

from leeward.agent.keys import save_keys
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore
from leeward.vault.stores.memory import MemoryStore

# Real processes: not for the fast suite.
pytestmark = pytest.mark.slow

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


class Office:
    """A vault with three points of the VM "web": the second and third one each hold 16 blocks of their own."""

    def __init__(self, folder):
        self.folder, self.vault_folder = folder, folder / "vault"
        self.vault = Vault.create(LocalStore(self.vault_folder), "secret", cost=CHEAP)[0]
        save_keys(folder / "s", self.vault.keys)
        self.vault.put_document(VM, "catalog", {"name": "web", "policy": {}})
        self.pen = Pen(self.vault, VM)
        self.pen.resize("vda", 64)
        dice = random.Random(7)
        self.points = [self.pen.put("vda", at, dice.randbytes(16 * 65536)).commit().id for at in (0, 16, 32)]
        config = folder / "leeward.toml"
        config.write_text(f'[vault]\nurl = "file://{self.vault_folder}"\n[daemon]\nstate = "{folder}/s"\n')
        self.environment = {**os.environ, "LEEWARD_CONFIG": str(config), "COLUMNS": "200"}

    def __call__(self, *words, code=0, said=""):
        """The answer of `leeward WORDS --json`; a failure is one line on standard error, and a document as well."""
        done = leeward([*words, "--json"], self.environment)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        answer = json.loads(done.stdout)
        if said:
            assert said in done.stderr, words
            assert done.stderr.count("\n") == 1, done.stderr
            assert answer["error"]["exit_code"] == code
        return answer

    def entry(self, number):
        return self.vault_folder / "vm" / VM / "log" / f"{number:016d}"

    def export(self, point, **how):
        target = self.folder / f"{point}.raw"
        return target, self("export", "web", "--point", point, "--disk", "vda", "--to", target, **how)


@pytest.fixture
def office(tmp_path):
    return Office(tmp_path)


def test_what_the_vault_holds_is_told_as_documented(office):
    section = DOCS.split("### `leeward vault info`\n", 1)[1]
    example = json.loads(re.search(r"```json\n(.*?)```", section, re.DOTALL)[1])
    shown = office("vault", "info")
    (vm,) = shown["vms"]
    assert (set(shown), set(vm)) == (set(example), set(example["vms"][0]))
    assert (vm["vm"], vm["points"], vm["first"] < vm["last"]) == ("web", 3, True)
    objects = list(office.vault.store.scan("vm/"))
    assert (shown["objects"], shown["bytes"]) == (len(objects), sum(found.size for found in objects))


def test_what_is_not_there_is_named_with_what_there_is(office, tmp_path):
    target = tmp_path / "x.raw"
    wanted = ("export", "web", "--to", target)
    office(*wanted, "--point", "99", "--disk", "vda", code=3, said="99")
    office(*wanted, "--point", "latest", "--disk", "vdz", code=3, said="It has: vda")
    office(*wanted, "--point", "latest", "--disk", "vda", "--format", "vmdk", code=2, said="raw, qcow2")
    office("export", "web", "--disk", "vda", "--to", tmp_path / "no" / "x", code=3, said="folder does not exist")
    assert not target.exists()
    target.write_bytes(b"precious")
    office(*wanted, "--point", "latest", "--disk", "vda", code=4, said="--force")
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("fault", ["flipped", "truncated", "swapped"])
def test_a_damaged_segment_is_named_and_hurts_no_other_point(office, fault):
    first, second, third = office.points
    damaged = office.entry(int(second))
    content = bytearray(damaged.read_bytes())
    if fault == "flipped":
        content[-10] ^= 1
    elif fault == "truncated":
        del content[-1000:]
    else:
        content[:] = office.entry(int(third)).read_bytes()
    damaged.unlink()
    damaged.write_bytes(content)

    name = f"log/{int(second):016d}"
    for way, hurt in (((), {VM: [second, third]}), (("--keyless",), {})):
        report = office("vault", "check", *way, code=7)
        assert not report["sound"]
        assert {name in trouble["key"] for trouble in report["troubles"]} == {True}
        assert report["hurt_points"] == hurt
    target, refusal = office.export(second, code=7, said=name)
    assert refusal["error"]["code"] == "damaged"
    assert not target.exists()
    target, _ = office.export(first)
    assert target.read_bytes() == office.pen.remembered[first]["vda"]


def test_an_older_point_is_not_exported_as_the_newest(office):
    newest = office.entry(int(office.points[-1]))
    content = bytearray(newest.read_bytes())
    content[80] ^= 1
    newest.unlink()
    newest.write_bytes(content)
    target, refusal = office.export("latest", code=7, said="newest recovery point is damaged")
    assert refusal["error"]["hint"] == f"The newest one that can be read is {office.points[1]}: choose it by its id"
    assert not target.exists()
    office.export(office.points[1])


def test_a_vault_that_is_not_there_or_not_opened(office):
    hidden = office.vault_folder.with_name("hidden")
    office.vault_folder.rename(hidden)
    for words in (("points", "web"), ("export", "web", "--disk", "vda", "--to", "x"), ("vault", "check")):
        office(*words, code=5, said="is its disk mounted")
    hidden.rename(office.vault_folder)
    assert [point["id"] for point in office("points", "web")] == office.points
    (office.folder / "s" / "keys" / "vault.key").unlink()
    office.environment["LEEWARD_PASSPHRASE"] = "Secret"
    office("points", "web", code=7, said="passphrase does not open")
    office.environment["LEEWARD_PASSPHRASE"] = "secret"
    assert [point["id"] for point in office("points", "web")] == office.points


FILL = """
import os, sys
from pathlib import Path
from leeward.cli.main import main
from leeward.recovery import image
small = Path(sys.argv[1])
if sys.argv[2] == "meanwhile":
    require = image._require_room
    def filled(folder, total):
        require(folder, total)
        (folder / "other").write_bytes(bytes(1 << 20))
    image._require_room = filled
sys.exit(main(["export", "web", "--disk", "vda", "--to", str(small / "x.raw")]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize(
    ("when", "size", "said"), [("before", "1m", "only "), ("meanwhile", "3584k", "disk is full")]
)
def test_a_disk_that_is_too_small_or_becomes_so(office, when, size, said):
    """The image needs 3 MiB. What has been begun is gone afterwards, what others have written stays."""
    small = office.folder / "small"
    small.mkdir()
    script = office.folder / "fill.py"
    script.write_text(FILL)
    command = f'mount -t tmpfs -o size={size} none {small} && "{sys.executable}" {script} {small} {when}; '
    command += f"code=$?; ls -A {small}; exit $code"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], env=office.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 6, (done.stdout, done.stderr)
    assert said in done.stderr
    assert "larger disk" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout.split() == (["other"] if when == "meanwhile" else [])


def test_a_passphrase_file_that_is_named_is_used_where_the_machine_holds_the_key(office, tmp_path):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("secret\n")
    wrong.write_text("sekret\n")
    for words in (["vault", "info"], ["vault", "check"]):
        office(*words, "--passphrase-file", right)
        office(*words, "--passphrase-file", wrong, code=7, said="the passphrase does not open this vault")
        office(*words, "--passphrase-file", tmp_path / "absent", code=2, said="the passphrase cannot be read")


def test_a_public_key_of_a_wrong_length(office):
    office("vault", "check", "--keyless", "--public-key", "00", code=2, said="a public key has 64 hexadecimal digits")
    office("vault", "check", "--keyless", "--public-key", "zz", code=2, said="is not hexadecimal")
    office("vault", "check", "--keyless", "--public-key", office.vault.public_key.hex())


def test_the_public_key_of_another_vault_is_told_as_that_alone(office):
    other = Vault.create(MemoryStore(), "x", cost=CHEAP)[0].public_key.hex()
    for words in (("--keyless",), ("--deep",)):
        report = office("vault", "check", *words, "--public-key", other, code=7)
        (trouble,) = report["troubles"]
        assert "not the vault of the public key that was given" in trouble["what"]
        assert (report["sound"], report["hurt_points"]) == (False, {})


def test_a_vault_that_is_away_is_one_that_is_not_there_only_where_no_key_is_held(office, tmp_path):
    commands = [("vault", "info"), ("vault", "check"), ("vault", "check", "--keyless"), ("vault", "prune")]
    commands += [("points", "web"), ("vault", "unlock", "--recovery-key", "x")]
    commands += [("export", "web", "--disk", "vda", "--to", tmp_path / "x")]
    commands += [("portal", "--vault", f"file://{office.vault_folder}", "--state", office.folder / "s")]
    for away in (lambda: shutil.rmtree(office.vault_folder / "keyring"), lambda: shutil.rmtree(office.vault_folder)):
        away()
        for words in commands:
            office(*words, code=5, said="This machine holds a vault's key, so there is one")
    (office.folder / "s" / "keys" / "vault.key").unlink()
    for words in commands[:-1]:
        office(*words, code=3, said="there is no store in this folder")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("-1s", "--retain: '-1s' is not a duration. Write it like 1s, 5m, 24h or 7d"),
        ("1x", "--retain: '1x' is not a duration"),
        ("", "--retain: '' is not a duration"),
        ("99999999d", "--retain: at most 36600d, not 99999999d"),
        ("9" * 400, "--retain: at most 36600d"),
        ("0.001s", "newest point alone"),
    ],
    ids=["negative", "unit", "empty", "long", "endless", "short"],
)
def test_pruning_by_an_age_that_makes_no_sense_is_refused_before_anything_is_read(office, wrong, said):
    office("vault", "prune", "--retain", wrong, code=2, said=said)
    office("vault", "prune", "--hourly", "1x", code=2, said="--hourly: '1x' is not a duration")
    office("vault", "prune", "--daily", "-2d", code=2, said="--daily: '-2d' is not a duration")
    assert [point["id"] for point in office("points", "web")] == office.points


def test_an_image_does_not_go_to_standard_output_or_over_a_device(office):
    export = ["export", "web", "--disk", "vda", "--force", "--to"]
    office(*export, "-", code=2, said="cannot be written to standard output")
    office(*export, "/dev/full", code=2, said="not a regular file")
    assert Path("/dev/full").is_char_device()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become somebody else")
def test_who_may_not_read_what_root_keeps_is_told_so(office):
    for folder in (office.folder, *office.folder.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o055)
    (office.folder / "s").chmod(0o700)
    program = "import os, sys; os.setuid(65534); from leeward.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, "points", "web", "--json"],
        env=office.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 10, done.stderr
    assert "may not be used by you" in done.stderr
    assert "as root" in done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "forbidden"


@pytest.mark.skipif(os.geteuid() != 0, reason="it is about root")
def test_root_to_whom_a_file_is_refused_is_told_which_one(office):
    """As on a share that does not trust root: here it is a root without any of his powers."""
    keys, share = office.folder / "s" / "keys", office.folder / "share"
    share.mkdir()
    words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "leeward.cli.main"]

    def told(*more):
        done = subprocess.run(
            [*words, *more, "--json"], env=office.environment, capture_output=True, text=True, check=False
        )
        assert done.stderr.count("\n") == 1, done.stderr
        return done.returncode, json.loads(done.stdout)["error"]

    def closed(folder):
        os.chown(folder, 65534, 65534)
        folder.chmod(0o700)

    closed(share)
    code, error = told("export", "web", "--disk", "vda", "--to", str(share / "in" / "x"))
    assert (code, error["subject"]) == (1, str(share / "in" / "x"))
    assert "Permission denied" in error["message"]
    closed(keys)
    code, error = told("points", "web")
    assert (code, error["code"]) == (10, "forbidden")
    assert error["subject"].startswith(str(keys))
    assert "root may not use" in error["message"]
