"""Which keys an object may have: the same rule in every store, so that a vault can move between them.

A key is 1..900 characters: segments of `[a-z0-9._-]` joined by "/". A segment has at most 200 characters, does not
begin with "." (hidden files, our own `.tmp`, and the path steps "." and ".." are all excluded at once) and does not
end with "." (Azure Blob drops a dot at the end of a name). No upper case: some file systems fold it.
900: S3 allows 1024 bytes, which leaves room for a prefix inside the bucket; 200: below the 255 of Linux file systems.
"""

from __future__ import annotations

import re

from leeward.domain.errors import StoreError

MAX_KEY = 900
MAX_SEGMENT = 200

_SEGMENT = re.compile(r"[a-z0-9_-](?:[a-z0-9._-]{0,198}[a-z0-9_-])?")
_PREFIX = re.compile(r"(?:[a-z0-9_-][a-z0-9._-]{0,199}/)*(?:[a-z0-9_-][a-z0-9._-]{0,199})?")


def is_segment(name: str) -> bool:
    """Whether `name` may stand between two slashes of a key."""
    return _SEGMENT.fullmatch(name) is not None


def check_key(key: str) -> str:
    """`key` itself. Raises StoreError when no object may have it."""
    if len(key) > MAX_KEY or not all(map(is_segment, key.split("/"))):
        raise StoreError(f"{key!r} is not a valid object key")
    return key


def check_prefix(prefix: str) -> str:
    """`prefix` itself ("" or the beginning of a valid key). Raises StoreError for anything else."""
    if len(prefix) > MAX_KEY or _PREFIX.fullmatch(prefix) is None:
        raise StoreError(f"{prefix!r} is not a valid prefix of object keys")
    return prefix


def check_folder(prefix: str) -> str:
    """`prefix` itself ("" or a prefix that ends in "/"). Raises StoreError for anything else."""
    if prefix and not prefix.endswith("/"):
        raise StoreError(f"{prefix!r} does not end with a slash")
    return check_prefix(prefix)


def check_range(start: int, length: int) -> None:
    """Raises StoreError for a negative start or length."""
    if start < 0 or length < 0:
        raise StoreError(f"the byte range {start}+{length} is negative")
