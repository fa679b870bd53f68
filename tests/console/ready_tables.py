"""New databases of tests that are not about tables: copied ready-made, where migrating took half of a test's time."""

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from leeward.state import engine as engines

_one_at_a_time = threading.Lock()


def copying(folder, migrate):
    """Does what `migrate` does, but copies a SQLite file that is not there yet from one that it keeps in `folder`."""
    ready = folder / "ready.db"

    def prepare(engine, url):
        if engine.dialect.name == "sqlite" and url.database and not Path(url.database).exists():
            with _one_at_a_time, suppress(OSError):  # no such folder, no room: the database itself tells it below
                if not ready.exists():
                    _make(ready, url, migrate)
                copy = Path(shutil.copyfile(ready, f"{url.database}.copy"))
                try:
                    os.link(copy, url.database)  # never over one that somebody else has just made
                finally:
                    copy.unlink()
                return
        migrate(engine, url)

    return prepare


def _make(ready, url, migrate):
    first = ready.with_suffix(".first")
    engine = engines._create(url.set(database=str(first)), "")
    migrate(engine, url)
    engine.dispose()  # the last one to close it leaves all of it in the one file
    first.rename(ready)
