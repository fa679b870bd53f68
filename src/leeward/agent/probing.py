"""Looking whether something is true of a VM that was brought up on this agent's host: its guest agent answers, a port
can be connected to, a path answers with a status.

Looking changes nothing, so that these jobs are done beside whatever else is done to the VM.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from leeward.agent.copy_tasks import Copies
from leeward.agent.jobs import Context, Task
from leeward.domain.errors import BadInput, LeewardError, NotFound
from leeward.wire.jobs import JobKind

_POLL_S = 0.5
# Of one try; the next one follows as long as there is time.
_TRY_S = 5.0
_MOST_BYTES = 65_536


class Reach(Protocol):
    """How one host reaches the VMs that run on it. vm_id: of the copy itself. See `leeward.network.reach`."""

    def agent_answers(self, vm_id: str) -> bool: ...

    def addresses(self, vm_id: str) -> list[str]:
        """What the guest's agent tells, with prefix lengths ("10.0.0.5/24"); [] when it tells nothing."""

    def connect(
        self, vm_id: str, address: str, port: int, timeout_s: float, *, isolated: bool
    ) -> AbstractContextManager[socket.socket]:
        """address: as in `addresses`, the prefix may be left out. isolated: the VM hangs on a switch without any way
        to this host. Raises OSError when nothing answers, LeewardError when it cannot even be tried."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """See `leeward.domain.plans.Check`."""

    kind: str
    port: int
    path: str
    status: int
    address: str
    isolated: bool


@dataclass(frozen=True, slots=True)
class ProbeTasks:
    """copies, reaches: by host name."""

    copies: Mapping[str, Copies]
    reaches: Mapping[str, Reach]

    def tasks(self) -> dict[JobKind, Task]:
        return {JobKind.PROBE: self.probe}

    def probe(self, context: Context) -> dict[str, Any]:
        """purpose, kind (agent, tcp or http), port, path, status, address, timeout_s → passed, detail.

        Tried again and again until it is true or time has run out; the detail is of the last try.
        """
        given = context.job.arguments
        reach = self.reaches.get(context.job.host)
        if reach is None:
            raise NotFound("this host is not set up to look at recovered VMs", subject=context.job.host)
        wanted = _Wanted(
            str(given["kind"]),
            int(given["port"]),
            str(given["path"]),
            int(given["status"]),
            str(given["address"]),
            given["purpose"] == "test",
        )
        timeout = float(given["timeout_s"])
        began = time.monotonic()
        while True:
            passed, detail = self._once(context, reach, wanted)
            taken = time.monotonic() - began
            if passed:
                return {"passed": True, "detail": f"{detail} (after {taken:.1f} s)"}
            context.tell(detail)
            if taken > timeout:
                return {"passed": False, "detail": f"{detail} (for {timeout:g} s)"}
            if context.cancelled.wait(_POLL_S):
                context.check()

    def _once(self, context: Context, reach: Reach, wanted: _Wanted) -> tuple[bool, str]:
        try:
            vm_id = self._copy_id(context)
            if wanted.kind == "agent":
                answers = reach.agent_answers(vm_id)
                return answers, "the guest agent answers" if answers else "the guest agent does not answer"
            return _ask(reach, vm_id, wanted)
        except BadInput:
            raise
        except LeewardError as error:
            return False, error.message

    def _copy_id(self, context: Context) -> str:
        job = context.job
        copies = self.copies.get(job.host)
        wanted = (job.vm_id, job.arguments["purpose"])
        for copy in copies.reports() if copies else ():
            if (copy.vm_id, copy.purpose) == wanted:
                return copy.copy_id
        if job.arguments["purpose"] == "failover":
            return job.vm_id  # it kept its identity, and what was written down about its making is long gone
        raise NotFound("it was not brought up on this host", subject=job.vm_id)


def _ask(reach: Reach, vm_id: str, wanted: _Wanted) -> tuple[bool, str]:
    """Of a guest with several addresses one that is as it should be is enough."""
    addresses = [wanted.address] if wanted.address else reach.addresses(vm_id)
    said = "the guest tells no address of its own: name one in the check"
    for address in addresses:
        place = f"{address.split('/')[0]} port {wanted.port}"
        try:
            with reach.connect(vm_id, address, wanted.port, _TRY_S, isolated=wanted.isolated) as connected:
                if wanted.kind == "tcp":
                    return True, f"{place} can be connected to"
                passed, said = _request(connected, wanted, place)
        except (OSError, http.client.HTTPException) as error:
            passed, said = False, f"{place}: {error or type(error).__name__}"
        if passed:
            return True, said
    return False, said


def _request(connected: socket.socket, wanted: _Wanted, place: str) -> tuple[bool, str]:
    host = wanted.address.split("/")[0] or place.split(" ")[0]
    connection = http.client.HTTPConnection(host, wanted.port, timeout=_TRY_S)
    connection.sock = connected
    connection.request("GET", wanted.path, headers={"Connection": "close"})
    answer = connection.getresponse()
    answer.read(_MOST_BYTES)
    return answer.status == wanted.status, f"{place}: {wanted.path} answers with status {answer.status}"
