"""The one error tree: what happened, on which VM or object, what the operator can do.

An error that reaches a person is always a `LeewardError`; the CLI prints it on one line and exits with its
`exit_code`, the API returns its `as_dict()`. Anything else is a bug and may show a traceback.
"""

from __future__ import annotations


class LeewardError(Exception):
    """Base of all expected failures.

    message: what happened, one sentence without a final full stop.
    subject: the VM, host, object or file it happened on ("" when there is none).
    hint: what the operator can do next ("" when there is nothing sensible).
    """

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.subject}: {self.message}" if self.subject else self.message
        return f"{text}. {self.hint}" if self.hint else text

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "subject": self.subject, "hint": self.hint}


class BadInput(LeewardError):
    """A value from the operator (option, config file, request) cannot be used."""

    code = "bad-input"
    exit_code = 2


class NotFound(LeewardError):
    """The named VM, host, point, disk or file does not exist."""

    code = "not-found"
    exit_code = 3


class Refused(LeewardError):
    """The action makes no sense in the present state; nothing was changed."""

    code = "refused"
    exit_code = 4


class Unavailable(LeewardError):
    """An outside system cannot be reached now; trying again later may work."""

    code = "unavailable"
    exit_code = 5


class NotSignedIn(LeewardError):
    """The console does not know who is asking: no credentials, or ones that are wrong or over."""

    code = "not-signed-in"
    exit_code = 10


class Forbidden(LeewardError):
    """The console knows who is asking, and that this is not theirs to do."""

    code = "forbidden"
    exit_code = 10


class TooManyAttempts(Unavailable):
    """Too many attempts to sign in. `wait_s`: when the next one may be made."""

    code = "too-many-attempts"

    def __init__(self, message: str, *, wait_s: int, subject: str = "", hint: str = "") -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.wait_s = wait_s


# --- object stores ------------------------------------------------------------------------------------


class StoreError(LeewardError):
    """The object store failed in a way that a retry will not mend."""

    code = "store"
    exit_code = 6


class ObjectExists(StoreError):
    """A create-only put found the key taken. The stored object is untouched."""

    code = "object-exists"


class ObjectNotFound(StoreError):
    """No object has this key."""

    code = "object-not-found"


class StoreUnavailable(StoreError, Unavailable):
    """Network or service trouble; the same call may succeed later. A put may or may not have happened."""

    code = "store-unavailable"
    exit_code = 5


class SpoolFull(StoreUnavailable):
    """The store takes nothing now, and the local spool has no room left. Nothing of the object was put anywhere."""

    code = "spool-full"


class StoreFull(StoreError):
    """No space left (or quota reached). Nothing of the object is visible."""

    code = "store-full"


class StoreReadOnly(StoreError):
    """The store, or our credentials for it, do not allow writing."""

    code = "store-read-only"


class ObjectRetained(StoreError):
    """The store keeps this object for a time and does not let it be deleted before; try again then.

    until_ns: UTC; None when it does not say.
    """

    code = "object-retained"

    def __init__(self, message: str, *, subject: str = "", hint: str = "", until_ns: int | None = None) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.until_ns = until_ns


# --- vault --------------------------------------------------------------------------------------------


class VaultError(LeewardError):
    """Something is wrong with the vault itself."""

    code = "vault"
    exit_code = 7


class WrongKey(VaultError):
    """The passphrase or the recovery key does not open this vault."""

    code = "wrong-key"


class Damaged(VaultError):
    """An object is truncated, altered or stands in another's place. `subject` is its key."""

    code = "damaged"


class Fenced(VaultError):
    """This writer's epoch is over: another one has opened a newer epoch. It must stop writing for good."""

    code = "fenced"
    exit_code = 8


# --- hypervisor ---------------------------------------------------------------------------------------


class HypervisorError(LeewardError):
    """The hypervisor refused or failed an operation."""

    code = "hypervisor"
    exit_code = 9


class TrackingLost(HypervisorError):
    """The change tracking that was asked for does not exist or cannot be trusted: resynchronize."""

    code = "tracking-lost"


class HostBusy(HypervisorError, Unavailable):
    """A foreign job (backup, migration, block job) has the right of way; try again at the next tick."""

    code = "host-busy"
    exit_code = 5


class VmGone(HypervisorError, NotFound):
    """The VM is no longer defined on its host."""

    code = "vm-gone"
    exit_code = 3
