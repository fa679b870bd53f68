"""The one writer of a VM's log: opens an epoch or goes on in its own, and puts entries at the tail."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from leeward.domain.errors import Damaged, Fenced, ObjectExists, SpoolFull, StoreError
from leeward.domain.points import Mark, RecoveryPoint
from leeward.domain.vm import Consistency, Disk, FirmwareState
from leeward.vault import checkpoint, keyspace
from leeward.vault.checkpoint import Checkpoint
from leeward.vault.folding import Breach, Entry, Part, Span, fold
from leeward.vault.format import Identity, Kind
from leeward.vault.history import History
from leeward.vault.index import MapState
from leeward.vault.maps import put_map
from leeward.vault.reigning import reign
from leeward.vault.segment import Meta, Sealer, verified
from leeward.vault.transaction import PointTransaction

# A map after this many entries keeps opening any point to a few hundred small reads …
MAP_EVERY = 256
# … but a large map is written more rarely: once its entries weigh about as much as itself.
MAP_BYTES_PER_ENTRY = 16384
# … and a first copy gets one at once: opening would have to read every part otherwise.
MAP_PARTS = 16
# After a map that could not be written, this many entries pass before the next try: while the vault is away each try
# would hold up a cycle for as long as the store goes on trying.
MAP_RETRY = 32


@dataclass(frozen=True, slots=True)
class Consent:
    """Somebody has chosen an older point of a log that cannot be read to its end, and what comes after it is to be
    passed over. point: its sequence number. unread: see `Breach`; all that he was told of."""

    point: int
    unread: tuple[int, ...]


class LogWriter:
    """`state` is the log's tail as this writer knows it; only its own puts change it.

    sure: False after a put at the tail of which it is unknown whether it took effect: open a new writer then.
    """

    def __init__(self, history: History, state: MapState) -> None:
        self._history = history
        self.state = state
        self.sure = True
        # Not a map that another writer has put beyond our tail meanwhile.
        maps = {seq: size for seq, size in history.maps().items() if seq <= state.seq}
        self._last_map = max(maps, default=0)
        self._map_bytes = maps.get(self._last_map, 0)
        parts = Counter(ref.seq for ref in state.objects if ref.part >= 0 and ref.seq > self._last_map)
        self._many_parts = max(parts.values(), default=0) >= MAP_PARTS
        self._map_failed = -MAP_RETRY
        # Since the last map; None: not read from the log yet.
        self._span: Span | None = None

    @staticmethod
    def open(
        history: History, *, writer: str, new_epoch: bool = False, reason: str = "", expect_epoch: int | None = None
    ) -> LogWriter:
        """See `VmLog.open_writer`."""
        while True:
            state = history.state()
            if expect_epoch is not None and state.epoch != expect_epoch:
                raise _fenced(history, state.epoch, expect_epoch)
            opened = LogWriter(history, state)
            if not new_epoch and state.seq:
                return opened
            try:
                opened._put_epoch({"writer": writer, "reason": reason}, state.seq)
            except Fenced:
                # Another writer was quicker at this very place. Reading the tail again puts our epoch after theirs.
                continue
            return opened

    @staticmethod
    def take(history: History, claim: int, info: dict[str, Any], consent: Consent | None = None) -> LogWriter:
        """See `VmLog.take_epoch`."""
        while True:
            try:
                state = history.state()
            except Damaged:
                if consent is None:
                    raise
                breach = history.breach()
                if breach is None:
                    continue  # what was damaged has just been put back
                epoch, tail = _allowed(history, breach, consent), breach.tail
                state = breach.state
            else:
                epoch, tail = state.epoch, state.seq
                found = reign(history) if epoch > claim else None
                # We began it, and died before we could remember.
                if found is not None and found.info == info and (found.passes or epoch == claim + 1):
                    return LogWriter(history, state)
            if epoch != claim:
                raise _fenced(history, epoch, claim)
            opened = LogWriter(history, state)
            try:
                opened._put_epoch(info, tail)
            except Fenced:
                continue  # the old writer put one more entry, or another one its epoch: look again
            return opened

    def check_reign(self) -> None:
        """Raises Fenced when somebody else has put an entry after our last one. One small request."""
        seq = self.state.seq + 1
        if self._history.exists(seq):
            raise _fenced(self._history, self._theirs(seq), self.state.epoch)

    def _theirs(self, seq: int) -> int:
        """The epoch of somebody else's entry in our place. Where that cannot be read, a newer one behind it says as
        well that ours is over: whoever writes here must find that out in time. Raises Damaged where nothing does."""
        try:
            return self._history.reader.open(keyspace.log(self._history.vm_id, seq)).header.identity.epoch
        except Damaged:
            newest = self._history.tail_epoch()
            if newest <= self.state.epoch:
                raise
            return newest

    def begin(
        self,
        *,
        time_ns: int,
        consistency: Consistency,
        disks: Sequence[Disk],
        definition: str,
        tracking: str,
        firmware: FirmwareState | None = None,
        compare: bool,
        mark: Mark | None = None,
        sender: Executor | None = None,
    ) -> PointTransaction:
        """Start a point. See `PointTransaction`."""
        return PointTransaction(
            self._history,
            self.state,
            self._put_commit,
            time_ns=time_ns,
            consistency=consistency,
            disks=disks,
            definition=definition,
            tracking=tracking,
            firmware=firmware,
            compare=compare,
            mark=mark,
            sender=sender,
        )

    def begin_move(self) -> PointTransaction:
        """Start an entry that only moves blocks to other places. What it is filled with must be what they hold."""
        state = self.state
        return PointTransaction(
            self._history,
            state,
            self._put_commit,
            time_ns=time.time_ns(),
            consistency=Consistency.CRASH,
            disks=state.disks,
            definition=state.definition,
            tracking=state.tracking,
            firmware=state.firmware,
            compare=False,
            kind=Kind.MOVE,
        )

    # --- entries ------------------------------------------------------------------------------------

    def _put_epoch(self, info: dict[str, Any], tail: int) -> None:
        """tail: the log's last entry; where it lies behind our state, what is between the two is passed over."""
        state, reader = self.state, self._history.reader
        seq, passes = tail + 1, tail - state.seq
        epoch = seq if passes else state.epoch + 1
        vm_id = self._history.vm_uuid
        identity = Identity(Kind.EPOCH, reader.keys.vault_id, vm_id, epoch, seq, passes, time.time_ns())
        meta = Meta.of(info)
        sealer = Sealer.make(reader.keys, vm_id, epoch, seq)
        buffers, _ = sealer.seal(identity, state.head, meta, [])
        self._put(seq, buffers, meta, ())

    def _put_commit(self, buffers: list[bytes], meta: Meta, transaction: PointTransaction) -> RecoveryPoint | None:
        parts = transaction.part_entries()
        entry = self._put(self.state.seq + 1, buffers, meta, parts)
        self._many_parts = self._many_parts or len(parts) >= MAP_PARTS
        if entry.kind is Kind.MOVE:
            return None
        point = entry.point()
        if self._span is not None:
            self._span.points.append(point)
        return point

    def _put(self, seq: int, buffers: list[bytes], meta: Meta, parts: tuple[Part, ...]) -> Entry:
        """Conditional create at the tail, then fold into our state."""
        key = keyspace.log(self._history.vm_id, seq)
        reader = self._history.reader
        # Before the put: what does not belong here (a transaction begun before another's commit) must not get here.
        opened = verified(buffers[0] + buffers[1], key, reader.keys.public_key)
        self.sure = False
        try:
            reader.store.put(key, buffers)
        except SpoolFull:
            self.sure = True  # nothing of it was put anywhere
            raise
        except ObjectExists:
            # Either our own put whose acknowledgement was lost, or somebody else is writing this log.
            if reader.store.get(key) != b"".join(buffers):
                raise _fenced(self._history, self._theirs(seq), self.state.epoch) from None
        entry = Entry(opened, meta, parts)
        fold(self.state, entry)
        self.sure = True
        return entry

    # --- maps ---------------------------------------------------------------------------------------

    def maintain(self) -> None:
        """Write a map checkpoint when one is due. Call it between cycles: its failure harms nothing."""
        if self.state.seq < self._map_failed + MAP_RETRY:
            return
        since = self.state.seq - self._last_map
        if self._many_parts or since >= max(MAP_EVERY, self._map_bytes // MAP_BYTES_PER_ENTRY):
            try:
                self.write_map()
            except StoreError:
                self._map_failed = self.state.seq
                raise

    def write_map(self) -> None:
        """Write a map checkpoint as of the tail. One that exists already serves as well."""
        history, state = self._history, checkpoint.compacted(self.state)
        if self._span is None:
            # Up to our tail only: when another writer has gone on from here, its points are not this map's.
            self._span = history.span_between(self._last_map, state.seq)
        span = self._span
        self._map_bytes = put_map(history, Checkpoint(state, self._last_map, span.points, span.passed, span.unread))
        self.state = state
        self._last_map = state.seq
        self._many_parts = False
        self._span = Span()


def _allowed(history: History, breach: Breach, consent: Consent) -> int:
    """The epoch after which a breach may be passed over. Raises Damaged when that is not what was agreed to."""
    hint = "Take what has been begun back, and begin anew with a point that can be read"
    if breach.state.seq < consent.point:
        raise Damaged(
            f"point {consent.point} cannot be read any more: {breach.error.message}",
            subject=breach.error.subject,
            hint=hint,
        )
    news = next((seq for seq in breach.unread if seq not in consent.unread), None)
    if news is not None:
        raise Damaged(
            "this entry cannot be read any more either: whether somebody else has taken the VM over in it "
            "is not known",
            subject=keyspace.log(history.vm_id, news),
            hint=hint,
        )
    return breach.epoch


def _fenced(history: History, theirs: int, ours: int) -> Fenced:
    if theirs > ours:
        message = f"epoch {ours} of this VM is over: epoch {theirs} has begun, another place writes now"
    else:
        message = f"another process writes in epoch {ours} of this VM"
    return Fenced(
        message,
        subject=history.vm_id,
        hint="Nothing more is written from here; see where the VM runs before you protect it again",
    )
