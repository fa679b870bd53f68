"""The state of a VM's firmware as JSON: small, since a variable store is mostly empty."""

from __future__ import annotations

import base64
from typing import Any

import zstandard

from leeward.domain.vm import FirmwareState

_LEVEL = 9  # some hundred KB, now and then


def firmware_info(state: FirmwareState) -> dict[str, Any]:
    return {"nvram": _packed(state.nvram), "tpm": [[name, _packed(data)] for name, data in state.tpm]}


def firmware_of(info: dict[str, Any] | None) -> FirmwareState:
    """The reverse; of None, what objects say that were written before there was anything to say."""
    if info is None:
        return FirmwareState()
    return FirmwareState(_unpacked(info["nvram"]), tuple((str(name), _unpacked(data)) for name, data in info["tpm"]))


def _packed(data: bytes) -> str:
    return base64.b64encode(zstandard.ZstdCompressor(level=_LEVEL).compress(data)).decode() if data else ""


def _unpacked(text: str) -> bytes:
    return zstandard.ZstdDecompressor().decompress(base64.b64decode(text)) if text else b""
