"""Which store an address means."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit

from leeward.domain.errors import BadInput, StoreError
from leeward.ports.objects import ObjectStore
from leeward.vault.stores.cloud import CloudStore
from leeward.vault.stores.keys import check_prefix
from leeward.vault.stores.local import LocalStore
from leeward.vault.stores.locking import ObjectLock
from leeward.vault.stores.memory import MemoryStore
from leeward.vault.stores.providers import AzureOptions, S3Options, azure_store, s3_store
from leeward.vault.stores.retry import Backoff, RetryingStore

_FORMS = "Use /folder, file:///folder, s3://bucket/prefix or azure://container/prefix"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # names that both S3 and Azure accept

_memory: dict[str, MemoryStore] = {}
_memory_lock = Lock()


def open_store(url: str, *, create: bool = True, retry_s: float | None = None, **options: Any) -> ObjectStore:
    """The store at `url`:

    /folder, file:///folder   LocalStore; options: sweep_age_s, nameless
    s3://bucket/prefix        options: the fields of S3Options
    azure://container/prefix  options: the fields of AzureOptions (az:// means the same)
    memory://name             the MemoryStore of that name in this process; no options

    create: make the folder of a LocalStore when it is missing (of a cloud, the bucket must exist in any case).
    retry_s: go on trying this long while the store does not answer; None: 60 s for clouds, no retry for the others.
    Raises BadInput for an address, option or credential that cannot be used, NotFound with create=False when there
    is no store in the folder. Contacts no server: what is wrong there shows in the first call.
    """
    store, retry_default = _opened(url, create, options)
    wanted = retry_default if retry_s is None else retry_s
    return RetryingStore(store, Backoff(deadline_s=wanted)) if wanted > 0 else store


def lock_of(url: str, **options: Any) -> ObjectLock | None:
    """The object lock that the store's bucket may have; None where there is no such thing. Raises as `open_store`."""
    store, _ = _opened(url, False, options)
    return store.lock if isinstance(store, CloudStore) else None


def local_folder(url: str) -> Path | None:
    """Where a LocalStore of this address lies; None for other stores."""
    if url.startswith("/"):
        return Path(url)
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _opened(url: str, create: bool, options: dict[str, Any]) -> tuple[ObjectStore, float]:
    if url.startswith("/"):
        return _local(url, url, create, options), 0.0
    parts = urlsplit(url)
    if parts.username or parts.password:
        hint = "Give credentials in the environment"
        raise BadInput("a store's address must not hold credentials", subject=without_login(url), hint=hint)
    if parts.query or parts.fragment:
        raise BadInput("a store's address has no ? or # part", subject=url.split("?", 1)[0].split("#", 1)[0])
    match parts.scheme:
        case "file":
            if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
                raise BadInput("a file address needs an absolute folder", subject=url, hint="Use file:///folder")
            return _local(unquote(parts.path), url, create, options), 0.0
        case "memory":
            _check_options(url, options, set())
            return _named_memory(parts.netloc + parts.path), 0.0
        case "s3":
            _check_options(url, options, {field.name for field in fields(S3Options)})
            return s3_store(*_bucket_and_prefix(url), S3Options(**options)), 60.0
        case "azure" | "az":
            _check_options(url, options, {field.name for field in fields(AzureOptions)})
            return azure_store(*_bucket_and_prefix(url), AzureOptions(**options)), 60.0
        case _:
            raise BadInput("this is not the address of a store", subject=url, hint=_FORMS)


def _local(path: str, url: str, create: bool, options: dict[str, Any]) -> LocalStore:
    _check_options(url, options, {"sweep_age_s", "nameless"})
    return LocalStore(path, create=create, **options)


def _named_memory(name: str) -> MemoryStore:
    with _memory_lock:
        return _memory.setdefault(name, MemoryStore(name))


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if not _BUCKET.fullmatch(parts.netloc):
        hint = "3 to 63 of a-z, 0-9 and -, as in s3://bucket/prefix"
        raise BadInput("the bucket or container name is not valid", subject=url, hint=hint)
    prefix = parts.path.strip("/")
    try:
        return parts.netloc, check_prefix(prefix)
    except StoreError as error:
        raise BadInput(error.message, subject=url, hint="Use a-z, 0-9, . _ - and / only") from error


def _check_options(url: str, options: dict[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(options) - known):
        hint = f"Known: {', '.join(sorted(known))}" if known else "It takes none"
        raise BadInput(f"unknown option {unknown[0]} for this store", subject=url, hint=hint)


def without_login(url: str) -> str:
    """An address as somebody typed it, without what may be a credential in it."""
    scheme, found, rest = url.partition("://")
    if not found:
        return url.rpartition("@")[2]
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0].partition('#')[0]}"
