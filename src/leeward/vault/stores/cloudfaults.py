"""What an error of obstore means for the caller of a store.

obstore gives few exception classes and puts the rest into the text: the HTTP status and the server's error body. So
the class is looked at first, then the error code in the body, then the status. Codes: S3 "Error responses", Azure
Storage "Blob service error codes"; the texts were read off obstore 0.12.1 against moto 5.2 and Azurite 3.37.
"""

from __future__ import annotations

import re

from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

from leeward.domain.errors import (
    ObjectExists,
    ObjectNotFound,
    ObjectRetained,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)

# FileNotFoundError stands in for "object not found", ValueError for arguments that obstore refuses.
FAULTS = (BaseError, FileNotFoundError, ValueError)

_STATUS = re.compile(r"status code: (\d{3})")
CODE = re.compile(r"<Code>(\w+)</Code>")
_QUERY = re.compile(r"\?[^\s\"'<>]*")  # may hold a shared access signature
_CLASS = re.compile(r"^Generic \w+ error: ")
_NO_CONTAINER = ("NoSuchBucket", "ContainerNotFound", "specified container does not exist", "ContainerBeingDeleted")
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"}
BAD_CREDENTIALS = {
    "AuthenticationFailed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
# Azure's: an immutability policy, or a legal hold, of the container or the blob.
_RETAINED = {"BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"}
_PASSING = {"RequestTimeout", "SlowDown", "ServerBusy", "OperationTimedOut", "InternalError"}


def is_past_end(fault: Exception) -> bool:
    """Whether the fault of a ranged read says that the range begins at or behind the end of the object."""
    text = str(fault)
    return _status(text) == 416 or "StartTooLarge" in text or "Wanted range starting at" in text


def translated(fault: Exception, subject: str, *, writing: bool) -> StoreError:
    """The StoreError for `fault`; writing: whether the failed call wanted to change the store."""
    text = str(fault)
    code = match[1] if (match := CODE.search(text)) else ""
    status = _status(text)
    if any(mark in text for mark in _NO_CONTAINER):
        return StoreError("the bucket or container does not exist", subject=subject, hint="Create it first")
    if code in _CONFLICT:
        # S3 answers so to a create that meets another request on the same key: nothing was written, try again.
        return StoreUnavailable("another request for this key is under way", subject=subject)
    if code in _RETAINED:
        return ObjectRetained("the store keeps it for a time and does not let it be deleted", subject=subject)
    if isinstance(fault, AlreadyExistsError):
        return ObjectExists("the object exists already", subject=subject)
    if isinstance(fault, FileNotFoundError):
        return ObjectNotFound("there is no such object", subject=subject)
    if code in _FULL or status == 507:
        return StoreFull("the store is full", subject=subject, hint="Free space or raise the quota")
    # Listings fail with the general class, so the status is looked at besides the class.
    if code in BAD_CREDENTIALS or status == 401 or isinstance(fault, UnauthenticatedError):
        return bad_credentials(subject)
    if status == 403 or isinstance(fault, PermissionDeniedError):
        if writing:
            hint = "Give them write access to the bucket or container"
            return StoreReadOnly("our credentials do not allow writing", subject=subject, hint=hint)
        return StoreError("our credentials do not allow reading", subject=subject, hint="Give them read access")
    if code in _PASSING or _worth_a_retry(status, text):
        return StoreUnavailable(f"the store does not answer: {_told(text)}", subject=subject)
    return StoreError(f"the store refused: {_told(text)}", subject=subject)


def bad_credentials(subject: str) -> StoreError:
    hint = "Check keys, their expiry, and this machine's clock"
    return StoreError("the store refused our credentials", subject=subject, hint=hint)


def _worth_a_retry(status: int | None, text: str) -> bool:
    if status is None:  # no answer at all: connection, name lookup, TLS, timeout, cut-off body
        return "builder error" not in text and "Invalid" not in text
    return status in (408, 429) or (status >= 500 and status != 501)


def _status(text: str) -> int | None:
    match = _STATUS.search(text)
    return int(match[1]) if match else None


def _told(text: str) -> str:
    """The part of obstore's text that helps a person: one line, without debug dump, XML and query strings."""
    first = text.split("\n\nDebug source", 1)[0]
    code = match[1] if (match := CODE.search(first)) else ""
    line = _QUERY.sub("", first.split("<?xml", 1)[0].split("<Error>", 1)[0])
    return " ".join(f"{_CLASS.sub('', line)} {code}".split()).rstrip(":. ")
