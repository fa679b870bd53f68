"""One writer at a time, and the older one finds out."""

import random
import threading

import pytest
from tests.vault.conftest import VM
from tests.vault.pen import Pen

from leeward.domain.errors import Fenced, StoreUnavailable
from leeward.vault.check import check


def test_an_older_writer_is_fenced_for_good(pen, vault):
    pen.resize("vda", 4).put("vda", 0, b"a" * 65536).commit()
    new = Pen.__new__(Pen)
    new.__dict__.update(pen.__dict__)
    new.writer = vault.log(VM).open_writer(writer="other", new_epoch=True)
    assert new.writer.state.epoch == 2
    pen.put("vda", 1, b"b" * 65536)
    with pytest.raises(Fenced, match=r"epoch 1 .* epoch 2"):
        pen.commit()
    with pytest.raises(Fenced):
        vault.log(VM).open_writer(writer="pen", expect_epoch=1)
    assert vault.log(VM).open_writer(writer="other", expect_epoch=2).state.epoch == 2
    assert [point.id for point in vault.log(VM).points()] == ["2"]


def test_two_processes_of_one_epoch_do_not_mix(pen, vault):
    pen.resize("vda", 4).put("vda", 0, b"a" * 65536).commit()
    twin = vault.log(VM).open_writer(writer="pen", expect_epoch=1)
    pen.put("vda", 1, b"b" * 65536).commit()
    stale = Pen.__new__(Pen)
    stale.__dict__.update({**pen.__dict__, "writer": twin, "remembered": {}})
    stale.put("vda", 2, b"c" * 65536)
    with pytest.raises(Fenced, match="another process"):
        stale.commit()
    pen.check("3")


def test_racing_writers_leave_a_dense_log_with_everything_acknowledged(vault):
    acknowledged, lock = {}, threading.Lock()

    def life(seed):
        dice = random.Random(seed)
        for _ in range(6):
            pen = Pen(vault, VM, new_epoch=True)
            pen.time = seed
            pen.resize("vda", 8)
            try:
                for _ in range(dice.randrange(1, 4)):
                    pen.put("vda", dice.randrange(8), dice.randbytes(65536))
                    pen.commit(compare=True)
            except Fenced:
                pass
            with lock:
                acknowledged.update(pen.remembered)

    threads = [threading.Thread(target=life, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert check(vault.store, keys=vault.keys).troubles == []
    points = {point.id for point in vault.log(VM).points()}
    assert set(acknowledged) == points
    assert len(points) > 5
    judge = Pen(vault, VM)
    judge.remembered = acknowledged
    for point_id in points:
        judge.check(point_id)


def test_a_lost_acknowledgement_is_no_loss(pen, vault, monkeypatch):
    pen.resize("vda", 4).put("vda", 0, b"a" * 65536).commit()
    original = vault.store.put

    def deaf(key, buffers):
        original(key, buffers)
        raise StoreUnavailable("the answer was lost")

    pen.put("vda", 1, b"b" * 65536)
    expected = {"vda": bytes(pen.disks["vda"])}
    monkeypatch.setattr(vault.store, "put", deaf)
    with pytest.raises(StoreUnavailable):
        pen.commit()
    monkeypatch.undo()
    pen.reopen(expect_epoch=1)
    assert pen.writer.state.seq == 3
    pen.remembered["3"] = expected
    pen.dirty = {}
    pen.put("vda", 2, b"c" * 65536).commit()
    pen.check_all()


WHO = {"writer": "b", "reason": "failover", "host": "recovery", "run": "r1"}


def test_an_epoch_is_taken_only_after_the_one_that_was_seen(pen, vault):
    pen.resize("vda", 4).put("vda", 0, b"a" * 65536).commit()
    log = vault.log(VM)
    with pytest.raises(Fenced):
        log.take_epoch(0, WHO)
    assert log.take_epoch(1, WHO).state.epoch == 2
    assert log.reign().info == WHO
    with pytest.raises(Fenced):
        log.take_epoch(1, {**WHO, "run": "another"})
    with pytest.raises(Fenced):
        pen.writer.check_reign()


def test_a_taking_that_died_before_it_was_remembered_is_recognized(pen, vault):
    pen.resize("vda", 4).put("vda", 0, b"a" * 65536).commit()
    log = vault.log(VM)
    first = log.take_epoch(1, WHO)
    again = log.take_epoch(1, WHO)
    assert again.state.epoch == 2
    assert again.state.seq == first.state.seq
    again.check_reign()


def test_the_first_epoch_of_an_empty_log_can_be_taken(vault):
    log = vault.log(VM)
    assert log.reign() is None
    assert log.take_epoch(0, WHO).state.epoch == 1
    assert log.reign().epoch == 1


def test_the_reign_is_found_in_a_long_log_of_many_epochs(pen, vault):
    pen.resize("vda", 4)
    for number in range(1, 8):
        for block in range(number):
            pen.put("vda", block % 4, bytes([number]) * 65536).commit()
        info = {**WHO, "run": f"r{number}"}
        pen.writer = vault.log(VM).take_epoch(number, info)
        reign = vault.log(VM).reign()
        assert (reign.epoch, reign.info) == (number + 1, info)
    pen.put("vda", 0, b"z" * 65536).commit()
    assert vault.log(VM).reign().info["run"] == "r7"


def test_only_one_of_many_racers_takes_an_epoch(pen, vault):
    pen.resize("vda", 4).put("vda", 0, b"a" * 65536).commit()
    won, lost = [], []

    def race(number):
        try:
            vault.log(VM).take_epoch(1, {**WHO, "run": str(number)})
            won.append(number)
        except Fenced:
            lost.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 7
    assert vault.log(VM).reign().info["run"] == str(won[0])
