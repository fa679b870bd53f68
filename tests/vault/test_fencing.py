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
            pen = Pen.__new__(Pen)
            pen.vault, pen.vm_id, pen.disks, pen.dirty, pen.remembered, pen.time = vault, VM, {}, {}, {}, seed
            pen.reopen(new_epoch=True)
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
    judge = Pen.__new__(Pen)
    judge.vault, judge.vm_id, judge.remembered = vault, VM, acknowledged
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
