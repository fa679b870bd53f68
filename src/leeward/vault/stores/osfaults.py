"""What an errno of the local file system means for the caller of a store."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from leeward.domain.errors import StoreError, StoreFull, StoreReadOnly, StoreUnavailable

_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
# Broken or vanished disks and network mounts, and shortages that pass. EIO is here because the next try writes a new
# file: nothing is ever retried on the pages whose write-back failed.
_UNAVAILABLE = {
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ESHUTDOWN,
    errno.EREMOTEIO,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EAGAIN,
    errno.EBUSY,
}


def translated(fault: OSError, subject: str, *, writing: bool) -> StoreError:
    """The StoreError for `fault`; writing: whether the failed call wanted to change the store."""
    reason = (fault.strerror or os.strerror(fault.errno or errno.EIO)).lower()
    if fault.errno in _FULL:
        return StoreFull(f"the store is full: {reason}", subject=subject, hint="Free space or raise the quota")
    if fault.errno in _READ_ONLY:
        if not writing:
            return StoreError(f"cannot read: {reason}", subject=subject, hint="Check owner and mode of the folder")
        hint = "Mount the file system writable, or give this user write access"
        return StoreReadOnly(f"cannot write: {reason}", subject=subject, hint=hint)
    if fault.errno in _UNAVAILABLE:
        hint = "Check that the disk or network mount is healthy"
        return StoreUnavailable(f"the store does not answer: {reason}", subject=subject, hint=hint)
    return StoreError(f"the file system refused: {reason}", subject=subject)


@contextmanager
def translating(subject: str, *, writing: bool) -> Iterator[None]:
    """Turns an OSError inside the block into the StoreError it means."""
    try:
        yield
    except OSError as fault:
        raise translated(fault, subject, writing=writing) from fault
