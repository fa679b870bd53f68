"""What the local store asks of the kernel, and in which order; and what a killed writer leaves.

Power loss cannot be had in a test. What is had: the system calls of a put, seen by strace, in the order that makes a
power loss harmless; errors injected into exactly those calls; and writers killed at random instants.
"""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from leeward.vault.stores.local import LocalStore

SYSCALLS = "writev,write,fsync,fdatasync,link,linkat,mkdir,mkdirat,openat"
PRELUDE = """
import os, sys
from leeward.domain.errors import *
from leeward.vault.stores.local import LocalStore
from leeward.vault.stores.retry import Backoff, RetryingStore
root = sys.argv[1]
def say(text):
    os.write(1, f"SAY {text}\\n".encode())
"""


@dataclass(frozen=True)
class Call:
    """name; text: the whole line of strace, with descriptors shown as paths."""

    name: str
    text: str


class Tracer:
    """Runs a script on a store under strace."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.root = folder / "store"
        self.said: list[str] = []

    def __call__(self, script: str, *inject: str) -> list[Call]:
        """The calls that succeeded, in order; `inject`: strace's fault injections."""
        log = self.folder / "trace"
        command = [self.program, "-f", "-y", "-s", "200", "-e", f"trace={SYSCALLS}", "-o", str(log)]
        for fault in inject:
            command += ["-e", f"inject={fault}"]
        command += [sys.executable, "-B", "-c", PRELUDE + textwrap.dedent(script), str(self.root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        self.said = re.findall(r"^SAY (.*)$", done.stdout, re.MULTILINE)
        lines = (line.split(maxsplit=1)[1] for line in log.read_text().splitlines())
        calls = [Call(line.partition("(")[0], line) for line in lines if re.match(r"\w+\(", line)]
        return [call for call in calls if not re.search(r"= -1 E", call.text)]


@pytest.fixture
def tracer(strace: str, tmp_path: Path) -> Tracer:
    return Tracer(strace, tmp_path)


Unharmed = Callable[[bool], list[Call]]


@pytest.fixture(scope="module")
def unharmed(strace: str, tmp_path_factory: pytest.TempPathFactory) -> Unharmed:
    """The calls of one `PUT` that meets no fault, nameless or not: they are the same each time."""

    @cache
    def calls(nameless: bool) -> list[Call]:
        tracer = Tracer(strace, tmp_path_factory.mktemp("unharmed"))
        LocalStore(tracer.root)
        found = tracer(PUT.format(nameless=nameless))
        assert tracer.said == ["done", "['vm/a/1']", "0"]
        return found

    return calls


def position(calls: list[Call], name: str, pattern: str, start: int = 0) -> int:
    """Index of the first such call from `start` on."""
    for index in range(start, len(calls)):
        if calls[index].name == name and re.search(pattern, calls[index].text):
            return index
    pytest.fail(f"no {name} of {pattern} after call {start}:\n" + "\n".join(call.text for call in calls))


def assert_durable_put(calls: list[Call], root: Path, key: str, content: str, said: str) -> None:
    """data written < data fsynced < linked < folder fsynced < told."""
    folder, _, name = key.rpartition("/")
    written = position(calls, "writev", content)
    draft = re.search(r"writev\((\d+)<", calls[written].text)
    assert draft
    fsynced = position(calls, "fsync", rf"^fsync\({draft[1]}<", written)
    linked = position(calls, "linkat", rf"<{root / folder}>, \"{name}\"", fsynced)
    settled = position(calls, "fsync", rf"<{root / folder}>\)", linked)
    position(calls, "write", f"SAY {said}", settled)
    assert not [call for call in calls[fsynced:linked] if call.name == "writev"], "wrote after the fsync"


@pytest.mark.parametrize("nameless", [True, False])
def test_put_is_told_only_when_data_and_name_are_on_disk(tracer: Tracer, nameless: bool) -> None:
    calls = tracer(f"""
        store = LocalStore(root, nameless={nameless})
        say("open")
        store.put("vm/a/log/1", [b"CONTENT", b"MORE"])
        say("put-1")
        store.put("vm/a/log/2", [b"SECOND"])
        say("put-2")
    """)
    root = tracer.root
    opened = position(calls, "write", "SAY open")
    first = position(calls, "write", "SAY put-1")
    assert_durable_put(calls[: first + 1], root, "vm/a/log/1", "CONTENT.*MORE", "put-1")
    assert_durable_put(calls[first + 1 :], root, "vm/a/log/2", "SECOND", "put-2")
    for folder in ("vm", "vm/a", "vm/a/log"):
        made = position(calls, "mkdir", f'"{root / folder}"', opened)
        assert position(calls, "fsync", rf"<{(root / folder).parent}>\)", made) < first
    # The second put into a folder that is known to be durable pays for two fsyncs only.
    assert [call.name for call in calls[first + 1 :]].count("fsync") == 2
    used = [call for call in calls if "O_TMPFILE" in call.text]
    assert bool(used) is nameless


def test_opening_makes_the_store_itself_durable(tracer: Tracer) -> None:
    tracer.root = tracer.folder / "new" / "deep" / "store"
    calls = tracer("""
        LocalStore(root)
        say("open")
    """)
    told = position(calls, "write", "SAY open")
    for folder in (tracer.root, *list(tracer.root.parents)[:2]):
        made = position(calls, "mkdir", f'"{folder}"')
        assert position(calls, "fsync", rf"<{folder.parent}>\)", made) < told
    marked = position(calls, "mkdir", rf'"{tracer.root}/\.tmp"')
    assert position(calls, "fsync", rf"<{tracer.root}>\)", marked) < told


def test_folders_made_by_a_killed_process_are_fsynced_again(tracer: Tracer) -> None:
    (LocalStore(tracer.root), (tracer.root / "vm/a/log").mkdir(parents=True))
    calls = tracer("""
        LocalStore(root).put("vm/a/log/1", [b"CONTENT"])
        say("put")
    """)
    told = position(calls, "write", "SAY put")
    for folder in (tracer.root, tracer.root / "vm", tracer.root / "vm/a"):
        assert position(calls, "fsync", rf"<{folder}>\)") < told


def test_whoever_is_told_that_an_object_exists_can_rely_on_it(tracer: Tracer) -> None:
    LocalStore(tracer.root).put("vm/a/1", [b"CONTENT"])
    calls = tracer("""
        try:
            LocalStore(root).put("vm/a/1", [b"OTHER"])
        except ObjectExists:
            say("exists")
    """)
    told = position(calls, "write", "SAY exists")
    assert position(calls, "fsync", rf"<{tracer.root}/vm/a>\)") < told
    assert not [call for call in calls if "OTHER" in call.text]


def nth_call(calls: list[Call], name: str, index: int) -> int:
    """Which call of its kind calls[index] is, counted from 1 as strace's when= does."""
    return [call.name for call in calls[: index + 1]].count(name)


def put_and_deleted(root: Path) -> None:
    """A store as it is when `PUT` was run on it and its object deleted: the folders are there."""
    store = LocalStore(root)
    store.put("vm/a/1", [b"CONTENT"])
    store.delete("vm/a/1")


PUT = """
store = LocalStore(root, nameless={nameless})
try:
    store.put("vm/a/1", [b"CONTENT"])
    say("done")
except StoreError as error:
    say(type(error).__name__)
say(sorted(info.key for info in store.scan("")))
say(len(os.listdir(root + "/.tmp")))
"""


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize(
    ("call", "fault", "said"),
    [
        ("writev", "ENOSPC", "StoreFull"),
        ("writev", "EDQUOT", "StoreFull"),
        ("writev", "EIO", "StoreUnavailable"),
        ("fsync", "EIO", "StoreUnavailable"),
        ("fsync", "ENOSPC", "StoreFull"),
        ("fsync", "EDQUOT", "StoreFull"),
        ("fsync", "ENOTCONN", "StoreUnavailable"),
        ("fsync", "ESTALE", "StoreUnavailable"),
        ("linkat", "EROFS", "StoreReadOnly"),
        ("linkat", "ENOSPC", "StoreFull"),
        ("linkat", "EXDEV", "StoreError"),
    ],
)
def test_fault_before_the_link_leaves_nothing(
    tracer: Tracer, unharmed: Unharmed, nameless: bool, call: str, fault: str, said: str
) -> None:
    put_and_deleted(tracer.root)
    script = PUT.format(nameless=nameless)
    calls = unharmed(nameless)
    written = position(calls, "writev", "CONTENT")
    which = nth_call(calls, call, position(calls, call, "", written))
    tracer(script, f"{call}:error={fault}:when={which}")
    assert tracer.said == [said, "[]", "0"]


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC", "EROFS"])
def test_fault_after_the_link_is_an_unknown_outcome_that_a_retry_settles(
    tracer: Tracer, unharmed: Unharmed, fault: str
) -> None:
    put_and_deleted(tracer.root)
    script = PUT.format(nameless=True)
    calls = unharmed(True)
    which = nth_call(calls, "fsync", position(calls, "fsync", r"vm/a>\)", position(calls, "linkat", "")))
    tracer(script, f"fsync:error={fault}:when={which}")
    # Visible: so neither StoreFull nor StoreReadOnly, which promise the contrary.
    assert tracer.said == ["StoreUnavailable", "['vm/a/1']", "0"]
    LocalStore(tracer.root).delete("vm/a/1")
    calls = tracer(
        """
        RetryingStore(LocalStore(root), Backoff(first_s=0.001)).put("vm/a/1", [b"CONTENT"])
        say("done")
        """,
        f"fsync:error={fault}:when={which}",
    )
    assert tracer.said == ["done"]
    # strace leaves out the injected failure above: what is left is the fsync of the second try.
    assert position(calls, "fsync", r"vm/a>\)", position(calls, "linkat", "")) < position(calls, "write", "SAY done")


@pytest.mark.parametrize(
    ("fault", "said"), [("EROFS", "StoreReadOnly"), ("ENOSPC", "StoreFull"), ("EIO", "StoreUnavailable")]
)
def test_fault_while_folders_are_made(tracer: Tracer, unharmed: Unharmed, fault: str, said: str) -> None:
    put_and_deleted(tracer.root)
    script = PUT.format(nameless=True)
    calls = unharmed(True)
    which = nth_call(calls, "mkdir", position(calls, "mkdir", '/vm/a"'))
    (tracer.root / "vm/a").rmdir()
    tracer(script, f"mkdir:error={fault}:when={which}")
    assert tracer.said == [said, "[]", "0"]


def test_file_system_without_nameless_files_gets_named_drafts(tracer: Tracer, unharmed: Unharmed) -> None:
    put_and_deleted(tracer.root)
    script = PUT.format(nameless=True)
    opened = [call for call in unharmed(True) if call.name == "openat"]
    which = nth_call(opened, "openat", position(opened, "openat", "O_TMPFILE"))
    calls = tracer(script, f"openat:error=EOPNOTSUPP:when={which}")
    assert tracer.said == ["done", "['vm/a/1']", "0"]
    assert_durable_put(calls, tracer.root, "vm/a/1", "CONTENT", "done")


# --- killed writers ---------------------------------------------------------------------------------------

WRITER = (
    PRELUDE
    + """
import hashlib, random
from threading import Thread
run, nameless = sys.argv[2], sys.argv[3] == "nameless"
store = LocalStore(root, nameless=nameless)
def content(key):
    chance = random.Random(key)
    body = chance.randbytes(chance.choice([0, 10, 5000, 300_000, 2_000_000]))
    return [hashlib.sha256(body).digest(), body[:1000], body[1000:]]
def work(worker):
    for number in range(10_000):
        key = f"run{run}/w{worker}/{number // 10}/{number}"
        store.put(key, content(key))
        say(key)
for worker in range(3):
    Thread(target=work, args=(worker,)).start()
"""
)


def kill_a_writer(root: Path, run: int, mode: str, pause: float) -> list[str]:
    """Keys that the writer had acknowledged when it was killed, `pause` seconds after the first."""
    command = [sys.executable, "-B", "-c", WRITER, str(root), str(run), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        head = writer.stdout.readline()
        time.sleep(pause)
        writer.kill()
        said = head + writer.stdout.read()
    return re.findall(r"^SAY (\S+)\n", said.decode(), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["nameless", "named"])
def test_killed_writers_leave_whole_objects_and_all_that_they_acknowledged(tmp_path: Path, mode: str) -> None:
    root = tmp_path / "store"
    chance = random.Random(mode)
    store = LocalStore(root)
    told: set[str] = set()
    for run in range(60):
        told.update(kill_a_writer(root, run, mode, chance.uniform(0, 0.08)))
    found = {info.key: info.size for info in store.scan("")}
    assert told <= set(found)
    assert len(told) >= 60
    for key, size in found.items():
        content = store.get(key)
        assert len(content) == size
        assert hashlib.sha256(content[32:]).digest() == content[:32], key
    left = list((root / ".tmp").iterdir())
    if mode == "nameless":
        assert not left
    else:
        assert left, "no kill hit a put: the test proves nothing"
        LocalStore(root)
        assert len(list((root / ".tmp").iterdir())) == len(left), "young drafts must stay"
        LocalStore(root, sweep_age_s=0)
        assert not list((root / ".tmp").iterdir())
    assert {info.key for info in store.scan("")} == set(found)


def test_sweep_spares_the_drafts_of_live_writers(tmp_path: Path) -> None:
    """A draft of a stopped but living process stays however old it is; once the process is dead it goes."""
    store = LocalStore(tmp_path)
    script = PRELUDE + textwrap.dedent("""
        from pathlib import Path
        from leeward.vault.stores.drafts import named_draft
        with named_draft(Path(root) / ".tmp") as draft:
            draft.write([b"half"])
            os.utime(draft.source, (0, 0))
            say("ready")
            sys.stdin.read()
    """)
    command = [sys.executable, "-B", "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"SAY ready\n"
        LocalStore(tmp_path)
        assert len(list((tmp_path / ".tmp").iterdir())) == 1
        writer.kill()
        writer.wait()
    LocalStore(tmp_path)
    assert not list((tmp_path / ".tmp").iterdir())
    assert list(store.scan("")) == []


# --- full and read-only file systems ----------------------------------------------------------------------


def in_mount_namespace(unshare: list[str], setup: str, script: str, root: Path) -> list[str]:
    """What the script said after the shell commands `setup`; mounts end with it."""
    shell = f'set -e; {setup}; exec "$0" -B -c "$1" "$2"'
    command = [*unshare, "sh", "-c", shell, sys.executable, PRELUDE + textwrap.dedent(script), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return re.findall(r"^SAY (.*)$", done.stdout, re.MULTILINE)


FILL = """
def content(number):
    return [bytes([number % 251]) * 700_000]
for nameless in (True, False):
    store = LocalStore(root, nameless=nameless)
    done = []
    try:
        for number in range(100):
            store.put(f"a/{number}", content(number))
            done.append(number)
    except StoreFull as error:
        say("StoreFull")
    assert 3 < len(done) < 60, len(done)
    assert sorted(info.key for info in store.scan("")) == sorted(f"a/{number}" for number in done)
    assert all(store.get(f"a/{number}") == content(number)[0] for number in done)
    assert not os.listdir(root + "/.tmp"), "a failed put must give its space back"
    for number in done:
        store.delete(f"a/{number}")
    store.put("b/after", content(1))
    store.delete("b/after")
    say("room again")
"""


def test_full_file_system_gives_store_full_and_nothing_visible(unshare: list[str], tmp_path: Path) -> None:
    said = in_mount_namespace(unshare, f"mount -t tmpfs -o size=8m none {tmp_path}", FILL, tmp_path)
    assert said == ["StoreFull", "room again"] * 2


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_full_disk_gives_store_full_and_nothing_visible(unshare: list[str], tmp_path: Path, kind: str) -> None:
    size = {"ext4": "16M", "xfs": "320M"}[kind]  # mkfs.xfs refuses less than 300 MiB
    image, mount = tmp_path / "image", tmp_path / "mount"
    subprocess.run(["truncate", "-s", size, str(image)], check=True)
    subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True)
    mount.mkdir()
    script = FILL if kind == "ext4" else FILL.replace("700_000", "12_000_000")
    assert (
        in_mount_namespace(unshare, f"mount -o loop {image} {mount}", script, mount)
        == ["StoreFull", "room again"] * 2
    )


def test_read_only_mount_can_be_read_and_refuses_writes(unshare: list[str], tmp_path: Path) -> None:
    LocalStore(tmp_path).put("a/b", [b"hello"])
    script = """
        def refused(call):
            try:
                call()
                say("done")
            except StoreReadOnly:
                say("StoreReadOnly")
        store = LocalStore(root)
        say(store.get("a/b"))
        say([info.key for info in store.scan("")])
        refused(lambda: store.put("a/c", [b"x"]))
        refused(lambda: store.put("new/folder/c", [b"x"]))
        refused(lambda: store.delete("a/b"))
        refused(lambda: LocalStore(root + "/new"))
    """
    setup = f"mount --bind {tmp_path} {tmp_path}; mount -o remount,ro,bind {tmp_path}"
    said = in_mount_namespace(unshare, setup, script, tmp_path)
    assert said == ["b'hello'", "['a/b']", *["StoreReadOnly"] * 4]


def test_copy_without_the_mark_on_read_only_media_can_be_read(unshare: list[str], tmp_path: Path) -> None:
    LocalStore(tmp_path).put("a/b", [b"hello"])
    (tmp_path / ".tmp").rmdir()
    script = """
        store = LocalStore(root, create=False)
        say(store.get("a/b"))
        try:
            store.get("a/c")
        except ObjectNotFound:
            say("ObjectNotFound")
    """
    setup = f"mount --bind {tmp_path} {tmp_path}; mount -o remount,ro,bind {tmp_path}"
    assert in_mount_namespace(unshare, setup, script, tmp_path) == ["b'hello'", "ObjectNotFound"]
