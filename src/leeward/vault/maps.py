"""Putting map checkpoints into the store."""

from __future__ import annotations

import time
from contextlib import suppress

from leeward.domain.errors import ObjectExists
from leeward.vault import checkpoint, keyspace
from leeward.vault.checkpoint import Checkpoint
from leeward.vault.format import Identity, Kind
from leeward.vault.history import History
from leeward.vault.segment import Meta, Sealer, byte_frames


def put_map(history: History, content: Checkpoint) -> int:
    """Put a map. One that exists already serves as well. Returns its size in bytes."""
    reader, state = history.reader, content.state
    info, stream = checkpoint.encode(content)
    identity = Identity(Kind.MAP, reader.keys.vault_id, history.vm_uuid, state.epoch, state.seq, 0, time.time_ns())
    sealer = Sealer.make(reader.keys, history.vm_uuid, state.epoch, state.seq)
    buffers, header = sealer.seal(identity, state.head, Meta.of(info), byte_frames(sealer, stream))
    with suppress(ObjectExists):
        reader.store.put(keyspace.map_(history.vm_id, state.seq), buffers)
    return header.total
