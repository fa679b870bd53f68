"""This machine's libvirt, to be made a host by clicks. See `leeward.ports.recovery_provider.OwnMachine`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path

from leeward.agent.added_hosts import added_hosts, keep_added, with_host, without_host
from leeward.agent.config import HostConfig
from leeward.agent.wiring import RunningAgent
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused
from leeward.domain.names import check_host_name
from leeward.hypervisors.libvirt.connection import HostUnavailable
from leeward.hypervisors.libvirt.survey import survey
from leeward.hypervisors.passage import make_passable
from leeward.logs import log
from leeward.network.apart import apart
from leeward.ports.recovery_provider import Survey, Wanted

LOCAL_URI = "qemu:///system"
# A libvirt that hangs has no limit of its own, neither when it is connected to nor when it is asked.
_SILENT_S = 5.0


class LibvirtHere:
    """shared: this console is one of several on a database. configured: names of the hosts that stand in the
    configuration, which `file` names.
    on_added: what is wished for the new host can be spread."""

    key = "here"

    def __init__(
        self,
        agent: RunningAgent,
        state: Path,
        *,
        shared: bool = False,
        configured: Sequence[str] = (),
        file: str = "leeward.toml",
        on_added: Callable[[], None] = lambda: None,
        uri: str = LOCAL_URI,
    ) -> None:
        self._agent, self._state, self._shared, self._on_added, self._uri = agent, state, shared, on_added, uri
        self._configured, self._file = frozenset(configured), file
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._asked: Future[Survey] | None = None
        self._began = 0.0

    def hosts(self) -> tuple[str, ...]:
        return tuple(host.name for host in self._agent.hosts() if host.uri == self._uri)

    def why_not(self) -> str:
        if self._shared:
            return "consoles that share a database have no hosts of their own"
        if self.hosts():
            return "this machine's libvirt is a host already"
        try:
            self.survey()
        except LeewardError:
            return "no libvirt answers on this machine"
        return ""

    def all_hosts(self) -> dict[str, str]:
        names = (host.name for host in self._agent.hosts())
        return {name: self._file if name in self._configured else "" for name in names}

    def stands_in(self, name: str) -> str:
        known = self.all_hosts()
        if name not in known:
            raise NotFound("this machine's agent has no such host", subject=name)
        return known[name]

    def survey(self) -> Survey:
        """All who ask while one question is out wait for that one: a libvirt that hangs costs one thread, not one of
        the pages' threads for each look."""
        with self._asking:
            if self._asked is None or self._asked.done():
                self._asked, self._began = (
                    apart(lambda: survey("this machine", self._uri), "survey"),
                    time.monotonic(),
                )
            asked, left = self._asked, self._began + _SILENT_S - time.monotonic()
        wait([asked], max(left, 0.0))
        if not asked.done():
            raise HostUnavailable(
                f"libvirt does not answer: not a word for {_SILENT_S:g} s",
                subject="this machine",
                hint="See whether libvirtd runs on the host",
            )
        return asked.result()

    def integrate(self, wanted: Wanted) -> None:
        if self._shared:
            raise Refused(self.why_not(), hint="Put the host's VMs into the care of an agent on a machine of its own")
        self._check(wanted)
        found = self.survey()
        with self._lock:  # not for as long as libvirt may take
            host = self._checked(wanted, found)
            self._add(host)
        log.info("host added", host=host.name, site=host.site)
        self._on_added()

    def remove(self, name: str) -> None:
        if file := self.stands_in(name):
            raise Refused(
                f"it stands in {file}",
                subject=name,
                hint="Take its [[host]] out there and start the console anew",
            )
        with self._lock:
            self._agent.remove(name, lambda: self._let_go(name))
        log.info("host removed", host=name)

    def _let_go(self, name: str) -> None:
        """Written down before the agent lets go of it. A list that cannot be written then leaves all as it was; and
        whoever dies in between has been told of no success, and finds at the next start what he had asked for. The
        other way round a host would come back by itself."""
        keep_added(self._state, without_host(added_hosts(self._state), name))

    def _add(self, host: HostConfig) -> None:
        """Raises LeewardError; a host that could not be made is not kept either."""
        before = added_hosts(self._state)
        # A host that dies between these two is there when it is started again.
        keep_added(self._state, with_host(before, host))
        try:
            self._agent.add(host)
        except (OSError, LeewardError) as error:
            if host not in self._agent.hosts():
                keep_added(self._state, before)
            if isinstance(error, LeewardError):
                raise
            raise LeewardError(
                f"the host's folders cannot be made: {error.strerror}", subject=str(error.filename or self._state)
            ) from error

    def _check(self, wanted: Wanted) -> None:
        """All that can be said without libvirt."""
        known = self._agent.hosts()
        here = next((host for host in known if host.uri == self._uri), None)
        if here is not None:
            raise Refused("this machine's libvirt is a host already", subject=here.name)
        check_host_name(wanted.name)
        if any(host.name == wanted.name for host in known):
            raise BadInput("a host of this name exists", subject="name")
        if wanted.site not in ("source", "recovery"):
            raise BadInput("a host belongs to the source or the recovery site", subject="site")
        if wanted.site == "recovery" and not wanted.storage:
            raise BadInput("a recovery host needs a storage folder", subject="storage")

    def _checked(self, wanted: Wanted, found: Survey) -> HostConfig:
        self._check(wanted)
        if wanted.network and wanted.network not in found.networks:
            raise BadInput("this machine has no such network, or it is not active", subject="network")
        storage = _usable(wanted.storage) if wanted.storage else None
        return HostConfig(wanted.name, wanted.site, self._uri, storage, wanted.network)


def _usable(text: str) -> Path:
    """A folder in which images can be made. Raises BadInput."""
    folder = Path(text)
    if not folder.is_absolute() or not text.isprintable() or ".." in folder.parts or folder == Path("/"):
        raise BadInput("write the folder from the root on, like /var/lib/leeward/images", subject="storage")
    probe = folder / ".leeward-probe"
    try:
        make_passable(folder)
        with probe.open("wb") as file:
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        raise BadInput(
            f"this folder cannot be written to: {error.strerror}",
            subject="storage",
            hint="Under systemd the console may write below /var/lib/leeward and /var/lib/libvirt/images only",
        ) from None
    return folder
