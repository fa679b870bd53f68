"""Texts of others, made fit to be kept. Pure."""

from __future__ import annotations


def clip(text: str, most: int = 255) -> str:
    """What every database can store: of bounded length, without NUL and halves of characters."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:most]
