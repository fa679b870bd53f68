"""A UEFI variable store (EDK2's, with authenticated variables) with entries of ours. Pure: bytes in, bytes out.

Written as in MdeModulePkg/Include/Guid/VariableFormat.h: after the volume's and the store's header one variable after
the other, each aligned to four bytes, the rest erased flash (0xFF).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator

_FIRST = 0x64  # behind EFI_FIRMWARE_VOLUME_HEADER (0x48 bytes) and VARIABLE_STORE_HEADER (0x1c)
_STORE_SIZE_AT = 0x58
_STORE_AT = 0x48
# StartId, State, Reserved, Attributes, MonotonicCount, TimeStamp, PubKeyIndex, NameSize, DataSize, VendorGuid
_VARIABLE = struct.Struct("<HBBIQ16sIII16s")
_START_ID, _ADDED = 0x55AA, 0x3F
_KEPT = 0x7  # non-volatile, for boot services and the running system
_GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
_ENTRY = 0x4C57  # number of our boot entry


def bootable(store: bytes, path: str, arguments: str) -> bytes:
    """The store with a boot entry for the EFI program `path` (on any FAT file system), first in the boot order."""
    name = _text(path)
    # A device path of one node (media, file path) and the end node; the firmware looks for the file on all disks.
    nodes = struct.pack("<BBH", 4, 4, 4 + len(name)) + name + struct.pack("<BBH", 0x7F, 0xFF, 4)
    active = 1
    option = struct.pack("<IH", active, len(nodes)) + _text("Leeward lab") + nodes + _text(arguments)
    return added(added(store, f"Boot{_ENTRY:04X}", option), "BootOrder", struct.pack("<H", _ENTRY))


def added(store: bytes, name: str, data: bytes) -> bytes:
    """The store with one more variable of the firmware's own kind (EFI_GLOBAL_VARIABLE)."""
    end = max((after for _, _, after in variables(store)), default=_FIRST)
    title = _text(name)
    header = _VARIABLE.pack(_START_ID, _ADDED, 0, _KEPT, 0, bytes(16), 0, len(title), len(data), _GLOBAL.bytes_le)
    record = header + title + data
    limit = _STORE_AT + struct.unpack_from("<I", store, _STORE_SIZE_AT)[0]
    if end + len(record) > limit:
        raise ValueError("the variable store is full")
    return store[:end] + record + store[end + len(record) :]


def variables(store: bytes) -> Iterator[tuple[str, bytes, int]]:
    """(name, data, offset of what follows) of each variable that counts, in the order in which they lie there."""
    at = _FIRST
    while struct.unpack_from("<H", store, at)[0] == _START_ID:
        _, state, _, _, _, _, _, name_size, data_size, _ = _VARIABLE.unpack_from(store, at)
        begin = at + _VARIABLE.size
        name = store[begin : begin + name_size].decode("utf-16-le").rstrip("\0")
        data = store[begin + name_size : begin + name_size + data_size]
        at = -(-(begin + name_size + data_size) // 4) * 4
        if state == _ADDED:
            yield name, data, at


def _text(text: str) -> bytes:
    return f"{text}\0".encode("utf-16-le")
