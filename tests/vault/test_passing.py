"""A log whose end cannot be read is gone on with from an older point, where somebody has chosen that."""

import random
from dataclasses import replace as replace_of

import pytest
from tests.vault.conftest import VM
from tests.vault.pen import Pen
from tests.vault.test_faults import flip, log, parts, replace

from leeward.domain.errors import Damaged, Fenced, NotFound, StoreUnavailable
from leeward.domain.retention import Retention
from leeward.domain.vm import FirmwareState
from leeward.vault.check import check
from leeward.vault.format import FIXED_SIZE, parse_header
from leeward.vault.log import Consent
from leeward.vault.writer import LogWriter

WHO = {"writer": "agent-recovery", "host": "recovery", "reason": "failover", "run": "r1"}


def noise(seed, blocks=1):
    return random.Random(seed).randbytes(blocks << 16)


@pytest.fixture
def written(pen, small_objects):
    """Entry 1 begins epoch 1; 2 … 8 are points, 5 in parts."""
    pen.resize("vda", 100)
    for number in range(2, 9):
        pen.put("vda", number, noise(number, 70 if number == 5 else 1)).commit()
    return pen


def header(store, key):
    flip(store, key, 60)


def meta(store, key):
    flip(store, key, parse_header(store.get(key), key).meta_start + 3)


def truncated(store, key):
    replace(store, key, store.get(key)[: FIXED_SIZE - 1])


def missing(store, key):
    store.delete(key)


def go_on(vault, point, claim=1, info=WHO, **how):
    """As a failover to this point does: whose pen it is knows the content of that point."""
    breach = vault.log(VM).breach()
    return vault.log(VM).take_epoch(claim, info, Consent(int(point), breach.unread if breach else ()))


def at_recovery(written, writer, point):
    """The VM runs on from this point."""
    pen = Pen.__new__(Pen)
    pen.__dict__.update(written.__dict__)
    pen.writer, pen.log, pen.dirty = writer, written.vault.log(VM), {}
    pen.disks = {name: bytearray(data) for name, data in written.remembered[point].items()}
    pen.remembered = dict(written.remembered)
    return pen


def listed(vault):
    return [point.id for point in vault.log(VM).points()]


BROKEN = {
    "the newest entry's header": ([(header, 8)], 7),
    "the newest entry's meta": ([(meta, 8)], 7),
    "the newest entry, truncated": ([(truncated, 8)], 7),
    "one further back": ([(header, 5)], 4),
    "several": ([(header, 4), (meta, 6), (truncated, 8)], 3),
    "one that is missing": ([(missing, 6)], 5),
    "the newest two": ([(header, 7), (header, 8)], 6),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_log_goes_on_from_the_last_entry_that_can_be_read(written, vault, what):
    hurt, last = BROKEN[what]
    kept = {log(seq): vault.store.get(log(seq)) for _, seq in hurt}
    for damage, seq in hurt:
        damage(vault.store, log(seq))
    with pytest.raises(Damaged):
        vault.log(VM).take_epoch(1, WHO)
    breach = vault.log(VM).breach()
    assert (breach.state.seq, breach.tail, breach.epoch) == (last, 8, 1)
    assert set(breach.unread) == {seq for damage, seq in hurt if damage is not meta}

    writer = go_on(vault, last)
    assert (writer.state.seq, writer.state.epoch, writer.state.tracking) == (9, 9, "")
    assert writer.state.last_point.id == str(last)
    with pytest.raises(Fenced, match="epoch 9 has begun"):
        written.put("vda", 1, noise(77)).commit()
    with pytest.raises(Fenced):
        written.writer.check_reign()

    pen = at_recovery(written, writer, str(last))
    pen.put("vda", 50, noise(50)).commit(compare=True)
    pen.reopen(expect_epoch=9)
    pen.put("vda", 51, noise(51)).commit()
    good = [str(seq) for seq in range(2, last + 1)]
    assert listed(vault) == [*good, "10", "11"]
    for point in listed(vault):
        pen.check(point)
    assert vault.log(VM).point("latest").id == "11"
    assert vault.log(VM).breach() is None

    # What was damaged is named still, and only that.
    for report in (check(vault.store, vault.public_key), check(vault.store, keys=vault.keys, deep=True)):
        assert {trouble.key for trouble in report.troubles} == {log(seq) for _, seq in hurt}
    assert report.hurt == {
        VM: [str(seq) for seq in range(last + 1, 9) if log(seq) in {i.key for i in vault.store.scan("")}]
    }

    # Put back, it can be had by its number; the log stays as it went on.
    for key, data in kept.items():
        vault.store.delete(key) if key in {i.key for i in vault.store.scan("")} else None
        vault.store.put(key, [data])
    assert check(vault.store, keys=vault.keys, deep=True).sound
    assert listed(vault) == [*good, "10", "11"]
    for point in [*good, *(str(seq) for seq in range(last + 1, 9)), "10", "11"]:
        pen.check(point)
        assert vault.log(VM).choose(point).id == point
    pen.reopen(expect_epoch=9)
    assert pen.writer.state.last_point.id == "11"


def test_a_damaged_part_that_a_commit_names(written, vault):
    flip(vault.store, parts(vault.store)[0], 60)
    writer = go_on(vault, "4")
    pen = at_recovery(written, writer, "4")
    pen.put("vda", 9, noise(9)).commit(compare=True)
    assert listed(vault) == ["2", "3", "4", "10"]
    pen.check("10")


def test_the_latest_is_the_one_that_the_log_went_on_from_until_there_is_another(written, vault):
    header(vault.store, log(5))
    with pytest.raises(Damaged):
        vault.log(VM).open_point("latest")
    go_on(vault, "3")  # 4 can be read: it is what the log goes on from, whichever point was wanted
    assert vault.log(VM).point("latest").id == "4"
    with vault.log(VM).open_point("latest") as image:
        assert image.point.id == "4"
    assert vault.log(VM).tail().gap("4", "t1000000004000000000") != ""


def test_a_damaged_entry_that_may_have_begun_an_epoch_is_outdone(written, vault):
    """Whoever reigned in it finds that his time is over."""
    other = vault.log(VM).take_epoch(1, {**WHO, "host": "third", "run": "r0"})
    header(vault.store, log(9))
    with pytest.raises(Damaged):
        vault.log(VM).reign()
    assert vault.log(VM).certain()[0].epoch == 1
    assert go_on(vault, "8").state.epoch == 10
    with pytest.raises(Fenced, match="epoch 2 of this VM is over: epoch 10 has begun"):
        other.check_reign()
    assert vault.log(VM).epoch() == 10
    assert vault.log(VM).reign().info == WHO
    assert vault.log(VM).last_move().info == WHO


def test_epochs_that_are_certain_bind_whoever_takes_over(written, vault):
    pen = at_recovery(written, vault.log(VM).take_epoch(1, {**WHO, "run": "r0"}), "8")
    pen.put("vda", 9, noise(9)).commit()
    meta(vault.store, log(9))  # the epoch's own entry: whose it is cannot be read, that it began can
    header(vault.store, log(10))
    assert vault.log(VM).breach().epoch == 2
    assert vault.log(VM).certain() == (None, None)
    with pytest.raises(Fenced):
        go_on(vault, "8", claim=1)
    assert go_on(vault, "8", claim=2).state.epoch == 11


def test_only_what_was_agreed_to_is_passed_over(written, vault):
    header(vault.store, log(8))
    vm_log = vault.log(VM)
    for consent in (Consent(8, (8,)), Consent(7, ()), Consent(7, (6,))):
        with pytest.raises(Damaged):
            vm_log.take_epoch(1, WHO, consent)
    with pytest.raises(Fenced):
        vm_log.take_epoch(0, WHO, Consent(7, (8,)))
    assert vm_log.breach().tail == 8
    assert vm_log.take_epoch(1, WHO, Consent(6, (7, 8))).state.seq == 9


def test_consent_changes_nothing_in_a_log_that_can_be_read(written, vault):
    writer = vault.log(VM).take_epoch(1, WHO, Consent(4, (8,)))
    assert (writer.state.epoch, writer.state.seq, writer.state.last_point.id) == (2, 9, "8")


def test_a_taking_that_died_is_recognized(written, vault, monkeypatch):
    header(vault.store, log(8))
    original = vault.store.put

    def deaf(key, buffers):
        original(key, buffers)
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(vault.store, "put", deaf)
    with pytest.raises(StoreUnavailable):
        go_on(vault, "7")
    monkeypatch.undo()
    for claim in (1, 8):
        again = vault.log(VM).take_epoch(claim, WHO, Consent(7, (8,)))
        assert (again.state.epoch, again.state.seq) == (9, 9)
    with pytest.raises(Fenced):
        vault.log(VM).take_epoch(1, {**WHO, "run": "another"}, Consent(7, (8,)))


def test_the_old_writer_puts_one_more_entry_meanwhile(written, vault, monkeypatch):
    header(vault.store, log(8))
    original = vault.store.put

    def late(key, buffers):
        monkeypatch.undo()
        written.put("vda", 1, noise(77)).commit()
        original(key, buffers)

    monkeypatch.setattr(vault.store, "put", late)
    writer = go_on(vault, "7")
    assert (writer.state.seq, writer.state.epoch, writer.state.last_point.id) == (10, 10, "7")
    with pytest.raises(Fenced):
        written.put("vda", 2, noise(78)).commit()


def test_a_map_that_the_old_writer_puts_late_is_of_what_was_passed_over(written, vault):
    header(vault.store, log(8))
    pen = at_recovery(written, go_on(vault, "7"), "7")
    written.writer.write_map()  # of entry 8, which only its writer knows still
    assert vault.log(VM).epoch() == 9
    pen.reopen(expect_epoch=9)
    assert pen.writer.state.last_point.id == "7"
    pen.put("vda", 9, noise(9)).commit(compare=True)
    pen.writer.write_map()
    pen.put("vda", 10, noise(10)).commit()
    assert listed(vault) == ["2", "3", "4", "5", "6", "7", "10", "11"]
    header(vault.store, log(8))  # put back
    for point in [*listed(vault), "8"]:
        pen.check(point)


def test_a_map_after_the_damage_is_gone_on_from(written, vault):
    header(vault.store, log(4))
    written.writer.write_map()
    pen = at_recovery(written, written.writer, "8")
    pen.put("vda", 9, noise(9)).commit()
    assert vault.log(VM).breach() is None
    header(vault.store, log(9))
    writer = go_on(vault, "8")
    assert writer.state.last_point.id == "8"
    again = at_recovery(pen, writer, "8")
    again.put("vda", 10, noise(10)).commit(compare=True)
    again.check("11")
    for report in (check(vault.store), check(vault.store, keys=vault.keys)):
        assert {trouble.key for trouble in report.troubles} == {log(4), log(9)}
    assert report.hurt[VM][-1] == "9"


def test_a_map_of_the_damaged_entry_itself_leaves_nothing_to_pass_over(written, vault):
    written.writer.write_map()
    header(vault.store, log(8))
    assert vault.log(VM).breach() is None
    assert vault.log(VM).reign().epoch == 1
    pen = at_recovery(written, go_on(vault, "7"), "7")
    assert (pen.writer.state.epoch, pen.writer.state.seq) == (2, 9)
    pen.put("vda", 9, noise(9)).commit(compare=True)
    pen.check("10")


def test_it_may_have_to_be_done_twice(written, vault):
    header(vault.store, log(8))
    pen = at_recovery(written, go_on(vault, "7"), "7")
    pen.put("vda", 9, noise(9)).commit(compare=True)  # 10
    pen.put("vda", 10, noise(10)).commit()  # 11
    header(vault.store, log(9))  # the very epoch that went on: all after it hangs on it
    breach = vault.log(VM).breach()
    assert (breach.state.seq, breach.tail, breach.epoch, breach.unread) == (7, 11, 9, (8, 9))
    again = at_recovery(pen, go_on(vault, "7", claim=9, info={**WHO, "run": "r2"}), "7")
    again.put("vda", 11, noise(11)).commit(compare=True)
    assert listed(vault) == ["2", "3", "4", "5", "6", "7", "13"]
    again.check("13")
    header(vault.store, log(9))  # put back
    for point in ("10", "11", "13"):
        again.check(point)
    header(vault.store, log(7))
    header(vault.store, log(12))
    third = at_recovery(again, go_on(vault, "6", claim=12, info={**WHO, "run": "r3"}), "6")
    assert third.writer.state.epoch == 14
    third.put("vda", 12, noise(12)).commit(compare=True)
    third.check("15")
    assert listed(vault) == ["2", "3", "4", "5", "6", "15"]


def test_a_map_that_does_not_know_the_newest_point_makes_no_older_one_the_newest(written, vault):
    header(vault.store, log(8))
    written.writer.write_map()  # which lists what can be read just then
    header(vault.store, log(8))  # put back
    assert vault.log(VM).point("latest").id == "8"
    with vault.log(VM).open_point("latest") as image:
        assert image.point.id == "8"


def test_who_follows_by_what_came_since_reads_all_anew(written, vault):
    header(vault.store, log(8))
    pen = at_recovery(written, go_on(vault, "7"), "7")
    pen.put("vda", 9, noise(9)).commit(compare=True)
    pen.put("vda", 10, noise(10)).commit()
    at = {point.id: point.time_ns for point in vault.log(VM).points()}
    for seq in ("6", "7"):
        assert vault.log(VM).since(seq, at[seq], "", FirmwareState()) is None
    assert vault.log(VM).since("10", at["10"], "", FirmwareState()).image.point.id == "11"
    assert vault.log(VM).since("8", at["7"] + 1, "", FirmwareState()) is None  # damaged: it is looked for elsewhere


def test_who_follows_notices_that_the_number_is_another_points_now(written, vault):
    """As after a vault was set back: its newest point is lost, and the next one has its number."""
    held = vault.log(VM).point("8")
    missing(vault.store, log(8))
    pen = at_recovery(written, vault.log(VM).open_writer(writer="w"), "7")
    pen.time = held.time_ns + 10**9
    pen.put("vda", 50, noise(50)).commit()
    pen.put("vda", 51, noise(51)).commit()
    assert [point.id for point in vault.log(VM).points()[-2:]] == ["8", "9"]
    assert vault.log(VM).since("8", held.time_ns, "", FirmwareState()) is None
    again = vault.log(VM).point("8")
    assert vault.log(VM).since("8", again.time_ns, "", FirmwareState()).image.point.id == "9"


def test_a_home_that_lives_is_fenced_although_what_came_just_after_it_cannot_be_read(written, vault):
    vault.log(VM).take_epoch(1, {**WHO, "host": "third", "run": "r0"})
    header(vault.store, log(9))
    with pytest.raises(Damaged):
        written.writer.check_reign()  # nothing says that its time is over
    go_on(vault, "8")
    with pytest.raises(Fenced, match="epoch 10 has begun"):
        written.writer.check_reign()
    with pytest.raises(Fenced, match="epoch 10 has begun"):
        written.put("vda", 1, noise(77)).commit()


def test_pruning_keeps_what_an_epoch_goes_on_from_that_cannot_be_read_itself(written, vault):
    store = vault.store
    written.put("vda", 8, noise(99)).commit()  # 9, in place of what 8 wrote
    sound = store.get(log(9))
    header(store, log(9))
    pen = at_recovery(written, go_on(vault, "8"), "8")  # 10
    pen.put("vda", 50, noise(50)).commit(compare=True)
    pen.put("vda", 51, noise(51)).commit()  # 12
    header(store, log(10))
    pen.writer.write_map()
    pen.put("vda", 52, noise(52)).commit()  # 13
    home = vault.log(VM).take_epoch(10, {**WHO, "host": "office", "reason": "failback", "run": "r9"})
    pen = at_recovery(pen, home, "13")
    pen.put("vda", 53, noise(53)).commit(compare=True)
    pen.put("vda", 54, noise(54)).commit()
    replace(store, log(9), sound)  # put back from a copy that is older than entry 10
    made = next(point.time_ns for point in vault.log(VM).points() if point.id == "9")
    vault.prune(vault.prune_plan(VM, Retention((pen.time - made) / 1e9 + 0.5), now_ns=pen.time))
    for point in ("12", "13", "15", "16"):
        pen.check(point)


def test_pruning_goes_on_past_a_point_that_cannot_be_read(written, vault):
    """No epoch is as old as that, so that it is none that goes on from an older entry."""
    header(vault.store, log(6))
    written.writer.write_map()
    made = next(point.time_ns for point in vault.log(VM).points() if point.id == "5")
    plan = vault.prune_plan(VM, Retention((written.time - made) / 1e9 - 0.5), now_ns=written.time)
    assert plan.after.base > 0


def test_a_missing_epoch_is_not_taken_for_one_that_was_pruned(written, vault):
    vault.log(VM).take_epoch(1, WHO).write_map()
    missing(vault.store, log(9))
    for asked in (vault.log(VM).reign, vault.log(VM).last_move):
        with pytest.raises(Damaged, match="missing"):
            asked()


def test_moves_are_known_across_it(written, vault):
    def take(host, reason, run, claim):
        return vault.log(VM).take_epoch(claim, {**WHO, "host": host, "reason": reason, "run": run})

    take("recovery", "failover", "r1", 1)  # 9: epoch 2
    pen = at_recovery(written, take("office", "failback", "r2", 2), "8")  # 10: epoch 3
    pen.put("vda", 9, noise(9)).commit()  # 11
    header(vault.store, log(11))
    go_on(vault, "8", claim=3, info={**WHO, "run": "r3"})  # 12
    vm_log = vault.log(VM)
    take("recovery", "protect", "", 12)  # 13
    found = []
    assert vm_log.last_move(lambda move: bool(found.append(move.info["run"])) or True) is None
    assert found == ["r3", "r2", "r1"]
    assert vm_log.last_move().info["run"] == "r3"


def test_an_epoch_whose_beginning_cannot_be_read_is_not_guessed_at(written, vault):
    pen = at_recovery(written, vault.log(VM).take_epoch(1, WHO), "8")
    pen.put("vda", 9, noise(9)).commit()
    pen.put("vda", 10, noise(10)).commit()
    header(vault.store, log(9))
    with pytest.raises(Damaged) as caught:
        vault.log(VM).reign()
    assert caught.value.subject == log(9)
    pen.writer.write_map()
    third = vault.log(VM).take_epoch(2, {**WHO, "host": "third", "reason": "protect"})
    assert vault.log(VM).reign().info["host"] == "third"
    with pytest.raises(Damaged):
        vault.log(VM).last_move()
    assert third.state.epoch == 3


def test_a_beginning_that_cannot_be_read_at_all_is_not_taken_for_no_move(written, vault):
    vault.log(VM).take_epoch(1, WHO)
    vault.log(VM).take_epoch(2, {**WHO, "reason": "protect"})
    for seq in range(1, 10):
        header(vault.store, log(seq))
    assert vault.log(VM).reign().epoch == 3
    with pytest.raises(Damaged):
        vault.log(VM).last_move()


@pytest.mark.parametrize("seed", range(5))
def test_who_reigns_is_told_rightly_or_not_at_all(written, vault, seed):
    dice, store, pen = random.Random(seed), vault.store, written
    for number in range(1, 6):
        info = {**WHO, "run": f"r{number}", "reason": dice.choice(["failover", "protect"])}
        if dice.random() < 0.3:
            header(store, log(pen.writer.state.seq))
            breach = vault.log(VM).breach()
            writer = go_on(vault, breach.state.last_point.id, claim=breach.epoch, info=info)
        else:
            writer = vault.log(VM).take_epoch(vault.log(VM).epoch(), info)
        pen = at_recovery(pen, writer, writer.state.last_point.id)
        for block in range(dice.randrange(1, 4)):
            pen.put("vda", block, noise(seed + block)).commit(compare=block == 0)
    asked = vault.log(VM)
    truth = asked.reign(), asked.last_move()
    assert truth[0].info["run"] == "r5"
    keys, told = [log(seq) for seq in range(1, pen.writer.state.seq + 1)], 0
    for _ in range(20):
        hurt = {key: store.get(key) for key in dice.sample(keys, dice.randrange(1, 5))}
        for key in hurt:
            dice.choice([header, meta])(store, key)
        for ask, right in zip(
            (asked.reign, asked.last_move, lambda: asked.certain()[0]), (*truth, None), strict=True
        ):
            try:
                found = ask()
            except Damaged:
                continue
            told += 1
            assert found == right if right else found is None or found.epoch <= truth[0].epoch
        for key, data in hurt.items():
            replace(store, key, data)
    assert told


@pytest.mark.parametrize("seq", [3, 6, 7])
def test_a_damaged_entry_within_an_epoch_does_not_hide_who_reigns(written, vault, seq):
    header(vault.store, log(seq))
    assert vault.log(VM).reign().epoch == 1
    assert vault.log(VM).last_move() is None


def test_pruning_goes_over_it_and_leaves_a_clean_log(written, vault):
    header(vault.store, log(7))
    pen = at_recovery(written, go_on(vault, "6"), "6")
    written.writer.write_map()  # late, of entry 8
    for gone in ("7", "8"):
        del pen.remembered[gone]
    pen.time = written.time
    bases = []
    for number in range(60):
        pen.put("vda", number % 90, noise(number)).commit(compare=number == 0)
        if number % 6 == 5:
            pen.writer.maintain()
            pen.prune(Retention(5.0))
            bases.append(vault.log(VM)._history.horizon().base)
            pen.check_all()
            pen.reopen(expect_epoch=9)
    assert not [base for base in bases if 6 < base < 9]  # what it went on from would be gone
    assert check(vault.store, keys=vault.keys, deep=True).sound
    assert vault.log(VM).reign().epoch == 9
    assert vault.log(VM).last_move().info == WHO


def test_pruning_stops_before_it_while_what_it_passed_over_is_in_the_window(written, vault):
    header(vault.store, log(8))
    pen = at_recovery(written, go_on(vault, "7"), "7")
    pen.remembered.pop("8")
    for number in range(3):
        pen.put("vda", number, noise(number)).commit(compare=number == 0)
    written.time = pen.time
    pen.prune(Retention(4.0))
    assert 2 < vault.log(VM)._history.horizon().base <= 7
    pen.check_all()
    header(vault.store, log(8))  # put back
    assert check(vault.store, keys=vault.keys, deep=True).sound
    written.check("8")
    # Whoever reads what was put back keeps it.
    vault.pin(VM, "8", "test", 60)
    for number in range(30):
        pen.put("vda", number, noise(number)).commit()
    pen.prune(Retention(3.0))
    written.check("8")
    pen.check_all()


def test_an_epoch_that_follows_something_else_than_it_says_is_no_part_of_the_log(written, vault):
    header(vault.store, log(8))
    state = vault.log(VM).breach().state
    LogWriter(vault.log(VM)._history, replace_of(state, head=bytes(range(32))))._put_epoch(WHO, 8)
    for report in (check(vault.store, vault.public_key), check(vault.store, keys=vault.keys)):
        assert {(trouble.key, trouble.what) for trouble in report.troubles} >= {
            (log(9), "does not follow log entry 7")
        }
    with pytest.raises(Damaged):
        vault.log(VM).open_point("latest")
    assert go_on(vault, "7", claim=9, info={**WHO, "run": "r2"}).state.last_point.id == "7"


def test_nothing_is_gone_on_from_where_nothing_can_be_read(written, vault):
    for seq in range(1, 9):
        header(vault.store, log(seq))
    breach = vault.log(VM).breach()
    assert (breach.state.seq, breach.state.last_point) == (0, None)
    with pytest.raises(Damaged):
        go_on(vault, "2", claim=0)
    with pytest.raises(NotFound):
        vault.log(VM).point("77")
