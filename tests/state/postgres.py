"""A real PostgreSQL server, Debian's, in a folder of its own, reached through a unix socket in that folder."""

import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from sqlalchemy import create_engine, text

from leeward.state.database import Database

_PR_SET_PDEATHSIG = 1


class Postgres:
    """Started by `start`, ended by `stop`; between the two it may be stopped and started again."""

    def __init__(self, programs, folder):
        self._programs = programs
        self._folder = folder
        self._user = _other_user()
        self._process = None
        self._numbers = itertools.count(1)
        self._model = None
        # Without a checkpoint for each, which costs nothing where nothing is brought to the disk.
        self._strategy = " STRATEGY FILE_COPY" if int(programs.parts[-2]) >= 15 else ""
        if self._user:
            shutil.chown(folder, self._user)
        self._run("initdb", "-D", folder / "data", "-U", "leeward", "-A", "trust", "-E", "UTF8", "--no-sync")

    def _run(self, program, *words):
        command = [str(self._programs / program), *map(str, words)]
        subprocess.run(command, user=self._user, cwd="/", check=True, capture_output=True)

    def start(self):
        words = ["-D", self._folder / "data", "-k", self._folder, "-c", "listen_addresses=", "-F"]
        # Nobody cuts the power, nobody copies it away, and no database lives long enough to need cleaning up.
        for setting in ("full_page_writes=off", "wal_level=minimal", "max_wal_senders=0", "autovacuum=off"):
            words += ["-c", setting]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), *map(str, words)],
                user=self._user,
                cwd="/",
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
            )
        ends = time.monotonic() + 30
        while True:
            try:
                self.execute("SELECT 1")
            except Exception:
                assert time.monotonic() < ends, (self._folder / "log").read_text()
                assert self._process.poll() is None, (self._folder / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self):
        if self._process:
            self._process.send_signal(signal.SIGINT)  # "fast": connections are ended, data is kept
            self._process.wait(30)
            self._process = None

    def remove(self):
        if self._process:
            self._process.send_signal(signal.SIGQUIT)  # at once: nothing of it is needed any more
            self._process.wait(30)
        shutil.rmtree(self._folder)

    def url(self, name="postgres"):
        return f"postgresql+psycopg://leeward@/{name}?host={self._folder}"

    def execute(self, statement):
        engine = create_engine(self.url(), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()

    def fresh(self):
        """URL of a new, empty database."""
        return self._create("")

    def ready(self):
        """URL of a new database with today's tables: copied, not made."""
        if not self._model:
            self._model = f"model{next(self._numbers)}"
            self.execute(f"CREATE DATABASE {self._model}")
            Database(self.url(self._model)).close()
        return self._create(f" TEMPLATE {self._model}")

    def _create(self, more):
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}{more}{self._strategy}")
        return self.url(name)


def find_programs():
    """Folder of the newest PostgreSQL that Debian has installed, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def short_folder():
    """The socket's path must be short, and the server's user must get at it. In memory, where there is room: a new
    database is three hundred files, for which ext4 takes six times as long."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30
    return Path(tempfile.mkdtemp(prefix="lwpg-", dir=memory if roomy else "/tmp"))


def _other_user():
    """PostgreSQL does not run as root; its package brings a user for it."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _end_with_parent():
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
