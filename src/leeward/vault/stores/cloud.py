"""A store in a bucket (S3 and what speaks its protocol) or a container (Azure Blob), through obstore.

Create-only puts are conditional writes (If-None-Match: *), always in one request: S3 takes 5 GiB, Azure 5000 MiB, far
above our objects, and one request is what makes them whole-or-nothing. obstore's own retries are off: after an
unknown outcome its second try would meet the object of its first and call it somebody else's; RetryingStore knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import obstore
from obstore.store import AzureStore, S3Store

from leeward.domain.errors import StoreError
from leeward.ports.objects import Buffer, ObjectInfo
from leeward.vault.stores.cloudfaults import FAULTS, is_past_end, translated
from leeward.vault.stores.keys import check_folder, check_key, check_prefix, check_range
from leeward.vault.stores.locking import ObjectLock

Bucket = S3Store | AzureStore

_PAGE = 1000  # what S3 returns at once
_PLAIN = re.compile(r"[a-z0-9_-][a-z0-9._-]*(?:/[a-z0-9_-][a-z0-9._-]*)*")
# Characters of a key in the order of their bytes; "/" stands between "." and "0".
_ORDER = "-." + "0123456789" + "_" + "abcdefghijklmnopqrstuvwxyz"


class CloudStore:
    """Objects in one bucket or container, below an optional prefix.

    reader, writers: the same place through several HTTP clients, because a read that stalls is noticed by the
    silence while a long upload is silent by nature (leeward.vault.stores.providers builds them). writers: each with
    the largest object that it is for, ascending; their patience fits that size. lock: the bucket's, where it can have
    one.
    """

    def __init__(
        self, reader: Bucket, writers: Sequence[tuple[int, Bucket]], url: str, lock: ObjectLock | None = None
    ) -> None:
        self._reader = reader
        self._writers = writers
        self._url = url
        self.lock = lock

    @property
    def url(self) -> str:
        return self._url

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        check_key(key)
        with _translating(key, writing=True):
            content = b"".join(parts)
            obstore.put(self._writer(len(content)), key, content, mode="create", use_multipart=False)

    def _writer(self, size: int) -> Bucket:
        return next(writer for largest, writer in self._writers if size <= largest)

    def delete(self, key: str) -> None:
        check_key(key)
        if self.lock is not None and self.lock.rule() is not None:
            self.lock.delete(key)
            return
        try:
            obstore.delete(self._writer(0), key)
        except FileNotFoundError as fault:  # Azure says so when there is nothing to delete; S3 does not
            error = translated(fault, key, writing=True)
            if type(error) is StoreError:
                raise error from None
        except FAULTS as fault:
            raise translated(fault, key, writing=True) from None

    def get(self, key: str) -> bytes:
        check_key(key)
        with _translating(key):
            return obstore.get(self._reader, key).bytes().to_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        if length == 0:  # not a range that HTTP can ask for; but a missing object must still be told
            self.size(key)
            return b""
        check_key(key)
        try:
            return obstore.get_range(self._reader, key, start=start, length=length).to_bytes()
        except FAULTS as fault:
            if is_past_end(fault):
                return b""
            raise translated(fault, key, writing=False) from None

    def size(self, key: str) -> int:
        check_key(key)
        with _translating(key):
            return int(obstore.head(self._reader, key)["size"])

    def scan(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return self._scan(check_prefix(prefix), start_after)

    def _scan(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """obstore lists below a folder, so what else the contract wants (part of a name, order) is done here."""
        last = ""
        for info in self._listed(prefix.rpartition("/")[0], _offset(prefix, start_after)):
            if info.key.startswith(prefix) and info.key > start_after:
                if info.key <= last:
                    hint = "Use a general purpose bucket, or a storage account without hierarchical namespace"
                    raise StoreError("the store does not list objects in order", subject=self._url, hint=hint)
                last = info.key
                yield info
            elif info.key[: len(prefix)] > prefix:
                return

    def _listed(self, folder: str, offset: str | None) -> Iterator[ObjectInfo]:
        with _translating(folder):
            # Not every server heeds the offset (Azurite does not), and some include it: the caller filters.
            pages = obstore.list(self._reader, folder or None, offset=offset, chunk_size=_PAGE)
        while True:
            with _translating(folder):
                page = next(pages, None)
            if page is None:
                return
            for meta in page:
                yield ObjectInfo(meta["path"], int(meta["size"]))

    def folders(self, prefix: str) -> list[str]:
        check_folder(prefix)
        with _translating(prefix):
            found = obstore.list_with_delimiter(self._reader, prefix.rstrip("/") or None)["common_prefixes"]
        return sorted(folder.rstrip("/").rpartition("/")[2] for folder in found)


def _offset(prefix: str, start_after: str) -> str | None:
    """Where a listing may begin without missing a key that has the prefix and is > start_after."""
    before = _before(prefix)
    offset = start_after if start_after > before else before
    return offset if _PLAIN.fullmatch(offset) else None


def _before(prefix: str) -> str:
    """A string that is less than every key with this prefix, and close to the least of them; "" for none."""
    if not prefix or prefix.endswith("/"):
        return ""  # the folder bounds the listing already
    place = _ORDER.index(prefix[-1])
    return f"{prefix[:-1]}{_ORDER[place - 1]}zzzz" if place else ""


@contextmanager
def _translating(subject: str, *, writing: bool = False) -> Iterator[None]:
    # "from None": the original's text can hold a signed address, which must not reach a log.
    try:
        yield
    except FAULTS as fault:
        raise translated(fault, subject, writing=writing) from None
