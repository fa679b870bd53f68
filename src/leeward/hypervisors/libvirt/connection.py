"""A connection to one libvirt daemon that survives the daemon's restarts, and its errors as ours."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import libvirt

from leeward.domain.errors import HostBusy, HypervisorError, LeewardError, TrackingLost, Unavailable, VmGone

T = TypeVar("T")

# libvirt prints every error to stderr unless told otherwise.
libvirt.registerErrorHandler(lambda context, error: None, None)

_CONNECTION_LOST = {
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
}
_TRACKING = {libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT, libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT}
_BUSY_TEXTS = ("another job", "block job", "blockjob", "state change lock", "backup job", "migration")
# What libvirt 9.0 says for good when it was killed at the wrong instant. While the guest runs neither ending the job
# nor another start of libvirtd helps; once it is off only the latter lets it be started («cannot acquire state change
# lock»).
_LOST_BACKUP = "backup job data missing"
# QEMU has one at most. libvirt begins each backup by starting it, and stops it at the end.
_FOREIGN_SERVER = "nbd server already running"
_BITMAP_TEXTS = ("bitmap", "checkpoint")


class HostUnavailable(HypervisorError, Unavailable):
    """The libvirt daemon cannot be reached."""

    code = "host-unavailable"
    exit_code = 5


def translate(error: libvirt.libvirtError, subject: str) -> LeewardError:
    """A libvirt error as one of ours. subject: VM or host."""
    code, text = error.get_error_code(), str(error)
    lower = text.lower()
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return VmGone("the VM is no longer defined", subject=subject, hint="Unprotect it, or define it again")
    if code in _TRACKING:
        return TrackingLost(f"libvirt cannot use the checkpoint: {text}", subject=subject)
    if _LOST_BACKUP in lower:
        return HypervisorError(
            "libvirt died while a backup of this VM was beginning, and lets nobody at it since",
            subject=subject,
            hint="The guest runs on: shut it down from inside, restart libvirtd, and start the guest again",
        )
    if _FOREIGN_SERVER in lower:
        return HostBusy(
            "somebody has started an NBD server in the VM's QEMU, and no backup begins beside it",
            subject=subject,
            hint=f"When nobody needs it: virsh qemu-monitor-command {subject} --hmp nbd_server_stop",
        )
    if any(part in lower for part in _BUSY_TEXTS):
        return HostBusy(f"another job has the right of way: {text}", subject=subject)
    if "monitor" in lower:  # the line to QEMU, not ours to libvirt
        return HypervisorError(f"the VM's QEMU went away: {text}", subject=subject)
    if code in _CONNECTION_LOST:
        return HostUnavailable(
            f"libvirt does not answer: {text}", subject=subject, hint="See whether libvirtd runs on the host"
        )
    if any(part in lower for part in _BITMAP_TEXTS):
        return TrackingLost(f"libvirt cannot use the checkpoint: {text}", subject=subject)
    return HypervisorError(text, subject=subject)


class Connection:
    """Opened when first needed, opened again after it broke. Thread-safe, as libvirt's own connections are."""

    def __init__(self, name: str, uri: str) -> None:
        self.name = name
        self.uri = uri
        self._lock = threading.Lock()
        self._open: libvirt.virConnect | None = None

    def get(self) -> libvirt.virConnect:
        """Raises HostUnavailable."""
        with self._lock:
            if self._open is not None:
                try:
                    if self._open.isAlive():
                        return self._open
                except libvirt.libvirtError:
                    pass  # a connection that cannot say is as good as dead
                self._open = None
            try:
                self._open = libvirt.open(self.uri)
            except libvirt.libvirtError as error:
                raise HostUnavailable(
                    f"libvirt does not answer: {error}",
                    subject=f"{self.name} ({self.uri})",
                    hint="See whether libvirtd runs on the host and the URI is right",
                ) from error
            return self._open

    def domain(self, vm_id: str) -> libvirt.virDomain:
        """Raises VmGone, HostUnavailable."""
        return self.ask(lambda connection: connection.lookupByUUIDString(vm_id), vm_id)

    def ask(self, question: Callable[[libvirt.virConnect], T], subject: str) -> T:
        """Run a question (something harmless to repeat); once more on a new connection when the old one broke."""
        for attempt in (1, 2):
            connection = self.get()
            try:
                return question(connection)
            except libvirt.libvirtError as error:
                if attempt == 1 and error.get_error_code() in _CONNECTION_LOST:
                    with self._lock:
                        self._open = None
                    continue
                raise translate(error, subject) from error
        raise AssertionError("unreachable")


def call(subject: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """One libvirt call with its error translated."""
    try:
        return function(*arguments)
    except libvirt.libvirtError as error:
        raise translate(error, subject) from error


def call_within(seconds: float, subject: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """As `call`, but give up waiting after `seconds` with HostBusy.

    libvirt queues a call behind a job of the same VM without any limit that a caller could set. The call itself
    goes on in its thread; whoever gives up must expect that it still takes effect.
    """
    outcome: list[Any] = []
    failure: list[libvirt.libvirtError | LeewardError] = []

    def run() -> None:
        try:
            outcome.append(function(*arguments))
        except (libvirt.libvirtError, LeewardError) as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise HostBusy(f"libvirt did not answer within {seconds:.0f} s", subject=subject)
    for error in failure:
        if isinstance(error, LeewardError):
            raise error
        raise translate(error, subject) from error
    return outcome[0]
