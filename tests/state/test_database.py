"""The console's memory on both databases: kept across restarts, used by several at once, one daemon a folder."""

import sqlite3
import threading

import pytest

from leeward.domain.errors import BadInput, LeewardError, Refused, Unavailable
from leeward.state.database import Database, FolderLock, acting
from leeward.wire.messages import PolicyMessage, ProtectionMessage

WISH = ProtectionMessage(vm_id="6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11", vm_name="web", host="office")


def wish(number):
    return WISH.model_copy(update={"vm_id": f"00000000-0000-0000-0000-{number:012}", "vm_name": f"vm{number}"})


def test_generations_grow_and_everything_is_kept(open_database):
    database = open_database()
    assert database.desired().generation == 0
    first = database.protect(WISH)
    changed = WISH.model_copy(update={"policy": PolicyMessage(rpo_s=1, bandwidth=7), "paused": True})
    second = database.protect(changed)
    assert (first.generation, second.generation) == (1, 2)
    database.close()
    again = open_database()
    assert again.desired() == second
    assert again.desired().protections == (changed,)
    assert again.unprotect(WISH.vm_id).generation == 3
    assert again.unprotect(WISH.vm_id).generation == 3
    assert again.desired().protections == ()


def test_several_consoles_count_every_change_and_see_whole_states(open_database):
    """Two consoles, four threads each: no generation is given twice, and each stands for one content."""
    databases = [open_database(), open_database()]
    states, failures = [], []

    def work(database, numbers):
        try:
            for number in numbers:
                states.append(database.protect(wish(number)))
                states.append(database.desired())
                states.append(database.unprotect(wish(number).vm_id))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(databases[n % 2], range(n * 10, n * 10 + 6))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert databases[0].desired().generation == 8 * 6 * 2
    contents = {}
    for state in states:
        assert contents.setdefault(state.generation, state.protections) == state.protections


def test_history_is_newest_first_and_tells_who(database):
    for number in range(5):
        database.record("protect", f"vm{number}")
    token = acting.set("anna")
    database.record("pause", "vm5")
    acting.reset(token)
    assert [(event["subject"], event["who"]) for event in database.events(3)] == [
        ("vm5", "anna"),
        ("vm4", "leeward"),
        ("vm3", "leeward"),
    ]


def test_history_takes_whatever_text_comes(database):
    database.record("w" * 100, "a\0b" * 200, "half a character: \ud800", who="x" * 300)
    (event,) = database.events()
    assert event["subject"].startswith("a\ufffdb")
    assert (len(event["what"]), len(event["subject"]), len(event["who"])) == (64, 255, 255)
    assert event["detail"] == "half a character: ?"


def test_what_fails_leaves_nothing(database):
    with pytest.raises(RuntimeError), database.writing() as session:
        session.connection().exec_driver_sql("DELETE FROM counter")
        raise RuntimeError
    assert database.protect(WISH).generation == 1


def test_wal_is_on(tmp_path):
    Database(f"sqlite:///{tmp_path}/leeward.db").close()
    with sqlite3.connect(tmp_path / "leeward.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_unusable_database_is_one_clear_error(tmp_path):
    with pytest.raises(LeewardError, match="cannot be opened"):
        Database(f"sqlite:///{tmp_path}/absent/leeward.db")


@pytest.mark.parametrize("url", ["mysql://root:hunter2@h/d", "postgresql+asyncpg://u:hunter2@h/d", "hunter2", ""])
def test_only_known_databases(url):
    with pytest.raises(BadInput, match="no database that Leeward can use") as caught:
        Database(url)
    assert "hunter2" not in str(caught.value)


def test_a_server_that_is_not_there_may_come_yet(tmp_path):
    with pytest.raises(Unavailable) as caught:
        Database(f"postgresql+psycopg://leeward:hunter2@/x?host={tmp_path}")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_goes_and_comes_back(postgres):
    database = Database(postgres.fresh())
    database.protect(WISH)
    postgres.stop()
    try:
        with pytest.raises(Unavailable):
            database.protect(WISH)
        with pytest.raises(Unavailable):
            database.desired()
    finally:
        postgres.start()
    assert database.protect(WISH).generation == 2
    database.close()


def test_a_frozen_console_does_not_hold_the_others(postgres, monkeypatch):
    monkeypatch.setattr("leeward.state.engine._LOCK_MS", 200)
    url = postgres.fresh()
    frozen, other = Database(url), Database(url)
    with frozen.writing() as session:
        session.connection().exec_driver_sql("UPDATE counter SET value = value + 1")
        with pytest.raises(Unavailable):
            other.protect(WISH)
    assert other.protect(WISH).generation == 2
    frozen.close()
    other.close()


def test_one_daemon_a_folder(tmp_path):
    with FolderLock(tmp_path), pytest.raises(Refused):
        FolderLock(tmp_path)
    with FolderLock(tmp_path):
        pass


def test_what_is_remembered_is_what_another_console_reads(tmp_path):
    """After each change, whoever made it and in whatever order."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    here, there = Database(url), Database(url)
    for number in range(4):
        here.protect(wish(number))
    for database, other, change in (
        (here, there, wish(2).model_copy(update={"paused": True})),
        (there, here, wish(1).model_copy(update={"policy": PolicyMessage(rpo_s=9)})),
        (here, there, wish(2).model_copy(update={"vm_name": "aaa"})),
        (here, there, wish(0).model_copy(update={"policy": PolicyMessage(rpo_s=8)})),
        (there, here, wish(7)),
    ):
        told = database.protect(change)
        fresh = Database(url).desired()
        assert told == fresh == database.desired() == other.desired()
        assert dict(other.wishes()) == {found.vm_id: found for found in fresh.protections}
    # One that has not looked since the other's change keeps that all the same.
    here.protect(wish(0).model_copy(update={"policy": PolicyMessage(rpo_s=3)}))
    told = there.protect(wish(3).model_copy(update={"policy": PolicyMessage(rpo_s=4)}))
    assert told == Database(url).desired()
    here.unprotect(wish(1).vm_id)
    assert here.desired() == there.desired() == Database(url).desired()
