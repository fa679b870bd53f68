"""Any sequence of points, epochs, maps, damage, its repair, and goings-on from older points: never a wrong byte."""

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen

from leeward.domain.errors import Damaged, LeewardError, NotFound
from leeward.domain.retention import Retention
from leeward.vault import keyspace, transaction
from leeward.vault.check import check
from leeward.vault.facade import Vault
from leeward.vault.format import parse_header
from leeward.vault.log import Consent
from leeward.vault.stores.memory import MemoryStore


class PassingMachine(RuleBasedStateMachine):
    """contents: what every point ever made must be. branch: ids of those that the log has gone on from, ascending."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(transaction, "OBJECT_FRAMES", 1)
        self.vault = Vault.create(MemoryStore(), "x", cost=CHEAP)[0]
        self.pen = Pen(self.vault, VM)
        self.pen.resize("vda", 24)
        self.contents, self.branch, self.epochs = {}, [], [1]
        self.kept = {}  # what was there before it was damaged
        self.compare = False
        self.runs = 0

    def log(self):
        return self.vault.log(VM)

    def base(self):
        return self.log()._history.horizon().base

    # --- what happens -------------------------------------------------------------------------------

    @rule(block=st.integers(0, 23), blocks=st.sampled_from([1, 1, 2, 20]), seed=st.integers(0, 2**32))
    def point(self, block, blocks, seed):
        """By the writer that has the log in its memory, whatever has become of what it wrote."""
        self.pen.put("vda", block, random.Random(seed).randbytes(blocks << 16))
        made = self.pen.commit(compare=self.compare)
        self.compare = False
        self.contents[made.id] = self.pen.remembered[made.id]
        self.branch.append(made.id)

    @rule()
    def map(self):
        self.pen.writer.write_map()

    @rule(dice=st.randoms(use_true_random=False), how=st.sampled_from(["header", "meta", "gone", "short"]))
    def damage(self, dice, how):
        base, store = self.base(), self.vault.store
        keys = [
            info.key
            for folder in ("log", "part", "map")
            for info in store.scan(f"vm/{VM}/{folder}/")
            if int(info.key.split("/")[-1].split(".")[0]) > base and info.key not in self.kept
        ]
        if not keys or self.base() >= self.pen.writer.state.seq:
            return
        key = dice.choice(keys)
        newest = keyspace.log(VM, self.pen.writer.state.seq)
        data = self.kept[key] = store.get(key)
        store.delete(key)
        if how == "gone" and key != newest:  # that a log has lost its very end nobody can know
            return
        hurt = bytearray(data[:100] if how in ("short", "gone") else data)
        hurt[{"meta": parse_header(data, key).meta_start + 2}.get(how, 60)] ^= 1
        store.put(key, [bytes(hurt)])

    @precondition(lambda self: self.kept)
    @rule(dice=st.randoms(use_true_random=False), every=st.booleans())
    def put_back(self, dice, every):
        self.restore(sorted(self.kept) if every else [dice.choice(sorted(self.kept))])

    def restore(self, keys):
        for key in keys:
            self.vault.store.delete(key)
            self.vault.store.put(key, [self.kept.pop(key)])

    @precondition(lambda self: self.branch)
    @rule(dice=st.randoms(use_true_random=False))
    def go_back(self, dice):
        """Somebody brings the VM up from a point, as far as that can be read."""
        point = dice.choice(self.branch[-8:])
        try:
            with self.log().open_point(point) as image:
                image.disks["vda"].read(0, image.disks["vda"].size)
            breach = self.log().breach()
            claim = breach.epoch if breach else self.log().epoch()
            self.runs += 1
            info = {"writer": "w", "host": f"h{self.runs}", "reason": "failover", "run": str(self.runs)}
            consent = Consent(int(point), breach.unread if breach else ())
            if breach is not None and breach.state.seq < int(point):
                with pytest.raises(Damaged):
                    self.log().take_epoch(claim, info, consent)
                return
            writer = self.log().take_epoch(claim, info, consent)
        except (Damaged, NotFound):
            return
        assert writer.state.epoch > self.epochs[-1]
        self.epochs.append(writer.state.epoch)
        again = self.log().take_epoch(claim, info, consent)
        assert (again.state.seq, again.state.epoch) == (writer.state.seq, writer.state.epoch)
        last = writer.state.last_point
        self.branch = [one for one in self.branch if int(one) <= int(last.id)]
        assert self.branch[-1] == last.id
        assert self.log().reign().info == info == self.log().last_move().info
        self.pen.writer, self.pen.dirty, self.compare = writer, {}, True
        self.pen.disks = {name: bytearray(data) for name, data in self.contents[point].items()}

    @precondition(lambda self: not self.kept)
    @rule(window=st.integers(1, 12))
    def prune(self, window):
        before = self.log().points()
        self.vault.prune(self.vault.prune_plan(VM, Retention(float(window)), now_ns=self.pen.time))
        left = {point.id for point in self.log().points()}
        assert left <= {point.id for point in before}
        self.branch = [one for one in self.branch if one in left]
        base = self.base()
        self.contents = {one: had for one, had in self.contents.items() if one in left or int(one) > base}
        assert check(self.vault.store, keys=self.vault.keys, deep=True).sound

    # --- what must be true ---------------------------------------------------------------------------

    @invariant()
    def never_a_wrong_byte(self):
        for point, had in list(self.contents.items())[-12:]:
            try:
                with self.log().open_point(point) as image:
                    assert image.disks["vda"].read(0, image.disks["vda"].size) == had["vda"], point
            except (Damaged, NotFound):
                assert self.kept, point

    @invariant()
    def the_newest_is_the_newest(self):
        try:
            newest = self.log().point("latest")
        except LeewardError:
            assert self.kept or not self.branch
        else:
            assert newest.id == self.branch[-1]

    @invariant()
    def listed_is_what_the_log_goes_on_from(self):
        listed = [point.id for point in self.log().points()]
        if not self.kept:
            assert listed == self.branch, (listed, self.branch)

    def teardown(self):
        self.restore(list(self.kept))
        self.never_a_wrong_byte()
        for point, had in self.contents.items():
            with self.log().open_point(point) as image:
                assert image.disks["vda"].read(0, image.disks["vda"].size) == had["vda"], point
        self.listed_is_what_the_log_goes_on_from()
        assert check(self.vault.store, keys=self.vault.keys, deep=True).sound
        self.patch.undo()


PassingMachine.TestCase.settings = settings(
    max_examples=settings.default.max_examples // 8,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestPassing = PassingMachine.TestCase
