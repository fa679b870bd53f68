"""What a thousand agents cost their console: real TLS over loopback, the console in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leeward.agent.identity import authority_context
from leeward.domain.errors import LeewardError
from leeward.domain.protection import ProtectionState
from leeward.domain.vm import Consistency, Power
from leeward.wire.messages import (
    AgentReport,
    DiskMessage,
    HostReport,
    PointMessage,
    ProtectionReport,
    VmMessage,
)
from leeward.wire.polls import HOLD_S, Orders, Poll, Section, Tell

_TICK = os.sysconf("SC_CLK_TCK")
_VMS = 3
_CONNECTING = 32  # side by side
_NO_NUMBERS = '"numbers":{}'


@dataclass(slots=True)
class Phase:
    """cores: of the console's process, mean. asked: requests a second."""

    name: str
    seconds: float
    cores: float
    asked: float
    memory: int


@dataclass(slots=True)
class Figures:
    """connect_ms: the console's CPU for one new line. delays_s: from submitting a job to its agent having it."""

    agents: int
    connect_ms: float = 0.0
    phases: list[Phase] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)


class _Line:
    """One kept-alive connection of a simulated agent; as little work as can be, since it is not what is measured."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context)

    async def ask(self, path: str, body: bytes) -> bytes:
        try:
            return await self._ask(path, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.open()  # the console closes lines on which nothing was said for long
            return await self._ask(path, body)

    async def _ask(self, path: str, body: bytes) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: console\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise LeewardError(f"the console answered {answer.splitlines()[0].decode()}")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.transport.abort()


class SimulatedAgent:
    def __init__(self, number: int, port: int, context: ssl.SSLContext, vms: int = _VMS) -> None:
        self.number, self._vms = number, vms
        self.poll_line, self.tell_line = _Line(port, context), _Line(port, context)
        self._numbers = dict.fromkeys(Section, 0)
        self._told = dict(self._numbers)
        # Written out once: what an agent costs is not what is measured.
        self._tell = Tell(run=f"run-{number}", numbers={}, report=_report(number, vms)).model_dump_json()
        self.held: dict[str, float] = {}
        self._generation = 1
        self.asked = 0

    async def open(self) -> None:
        await self.tell_line.open()
        await self.tell(everything=True)
        await self.poll_line.open()
        await self.poll(0)

    async def tell(self, everything: bool = False) -> None:
        """The facts of a cycle that has just ended, as an agent tells them."""
        self._numbers[Section.REPORT] += 1
        if everything:
            self._numbers = {section: number + 1 for section, number in self._numbers.items()}
        body = self._tell
        if everything:
            tell = Tell.model_validate_json(body)
            whole = {"hosts": (_host(self.number, self._vms),), "jobs": ()}
            body = tell.model_copy(update=whole).model_dump_json()
        numbers = json.dumps(self._numbers)
        await self.tell_line.ask("/agent/tell", body.replace(_NO_NUMBERS, f'"numbers":{numbers}', 1).encode())
        self._told = dict(self._numbers)
        self.asked += 1

    async def poll(self, wait_s: float) -> None:
        poll = Poll(
            run=f"run-{self.number}",
            wait_s=wait_s,
            generation=self._generation,
            held=tuple(self.held),
            numbers=self._told,
        )
        orders = Orders.model_validate_json(await self.poll_line.ask("/agent/poll", poll.model_dump_json().encode()))
        self.asked += 1
        if orders.desired is not None:
            self._generation = orders.desired.generation
        for job in orders.jobs:
            self.held[job.id] = time.monotonic()

    async def keep_polling(self) -> None:
        await self.poll(random.uniform(0, HOLD_S))  # so that polls end evenly over time
        while True:
            await self.poll(HOLD_S)

    async def tell_every(self, seconds: float) -> None:
        await asyncio.sleep(random.uniform(0, seconds))
        while True:
            began = time.monotonic()
            await self.tell()
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))


def measure(count: int, seconds: float, note: Callable[[str], None]) -> Figures:
    """Idle agents; then agents whose three VMs get new points every 5 s, then every second. Each for `seconds`."""
    with tempfile.TemporaryDirectory(prefix="leeward-bench-") as name:
        folder = Path(name)
        note(f"Enrolling {count} agents")
        command = [sys.executable, "-m", "leeward.lab.bench.agents_console", str(folder), str(count)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as console:
            assert console.stdout is not None
            assert console.stdin is not None
            try:
                port = int(console.stdout.readline() or 0)
                if not port:
                    raise LeewardError("the console did not start")
                return asyncio.run(_run(folder, port, console, seconds, note))
            finally:
                console.stdin.close()


async def _run(
    folder: Path, port: int, console: subprocess.Popen[str], seconds: float, note: Callable[[str], None]
) -> Figures:
    stored = json.loads((folder / "agents.json").read_text())
    agents = [
        SimulatedAgent(number, port, agent_context(folder, stored, certificate))
        for number, certificate in enumerate(stored["certificates"])
    ]
    figures = Figures(len(agents))
    note("Connecting")
    before = cpu_s(console.pid)
    gate = asyncio.Semaphore(_CONNECTING)
    polls = await asyncio.gather(*(connect(gate, agent) for agent in agents))
    figures.connect_ms = (cpu_s(console.pid) - before) * 1000 / (2 * len(agents))
    try:
        await asyncio.sleep(HOLD_S)
        for what, every in (("idle", 0.0), ("new points every 5 s", 5.0), ("new points every second", 1.0)):
            note(f"Measuring: {what}")
            tells = [asyncio.create_task(agent.tell_every(every)) for agent in agents if every]
            await asyncio.sleep(min(every, seconds))
            figures.phases.append(await _measured(what, agents, console.pid, seconds))
            _check(polls + tells)
            for task in tells:
                task.cancel()
            await asyncio.gather(*tells, return_exceptions=True)
        note("Measuring: a job's way")
        figures.delays_s = await _job_delays(agents, console)
    finally:
        for task in polls:
            task.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
    return figures


def _check(tasks: list[asyncio.Task[None]]) -> None:
    """With a line that broke all figures would be worthless."""
    broken = [error for task in tasks if task.done() and (error := task.exception())]
    if broken:
        raise LeewardError(f"{len(broken)} lines broke: {broken[0]}", hint="Is the machine busy with something else?")


async def connect(gate: asyncio.Semaphore, agent: SimulatedAgent) -> asyncio.Task[None]:
    async with gate:
        await agent.open()
    return asyncio.create_task(agent.keep_polling())


async def _measured(name: str, agents: list[SimulatedAgent], pid: int, seconds: float) -> Phase:
    cpu, asked, began = cpu_s(pid), sum(agent.asked for agent in agents), time.monotonic()
    await asyncio.sleep(seconds)
    passed = time.monotonic() - began
    return Phase(
        name,
        passed,
        (cpu_s(pid) - cpu) / passed,
        (sum(agent.asked for agent in agents) - asked) / passed,
        memory(pid),
    )


async def _job_delays(agents: list[SimulatedAgent], console: subprocess.Popen[str]) -> list[float]:
    assert console.stdin is not None
    delays = []
    for number, agent in zip(itertools.count(), random.sample(agents, min(100, len(agents))), strict=False):
        job_id, began = f"job-{number}", time.monotonic()
        console.stdin.write(f"{agent.number} {job_id}\n")
        console.stdin.flush()
        while job_id not in agent.held:
            if time.monotonic() - began > HOLD_S:
                raise LeewardError("a job did not reach its agent", subject=job_id)
            await asyncio.sleep(0.001)
        delays.append(agent.held[job_id] - began)
    return delays


def agent_context(folder: Path, stored: dict[str, Any], certificate: str) -> ssl.SSLContext:
    context = authority_context(stored["authority"])
    pem = folder / "agent.pem"
    pem.write_text(stored["key"] + certificate)
    context.load_cert_chain(pem)
    return context


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def host_name(agent: int) -> str:
    return f"host-{agent:04}"


def vm_id(agent: int, vm: int) -> str:
    return f"a9f92592-3896-421e-bfb4-{agent:08}{vm:04}"


def vm_name(agent: int, vm: int) -> str:
    return f"vm-{agent:04}-{vm}"


def _report(number: int, vms: int) -> AgentReport:
    point = PointMessage(
        id="123456",
        time="2026-11-24T04:29:12.371184Z",
        consistency=Consistency.CRASH,
        disks=(DiskMessage(name="vda", size=64 << 30), DiskMessage(name="vdb", size=128 << 30)),
        bytes=11_102,
        epoch=1,
    )
    protections = tuple(
        ProtectionReport(
            vm_id=vm_id(number, vm),
            state=ProtectionState.ENABLED,
            reason="",
            progress=None,
            rpo_target_s=5,
            rpo_actual_s=0.4,
            verified_at="2026-11-24T04:29:12.371184Z",
            last_point=point,
            failover_possible=True,
            cycles=1000,
            last_cycle_ms=157.9,
            last_cycle_bytes=11_102,
        )
        for vm in range(vms)
    )
    return AgentReport(agent="x", generation=1, time="2026-11-24T04:29:12.371184Z", protections=protections)


def _host(number: int, vms: int) -> HostReport:
    rows = tuple(
        VmMessage(
            id=vm_id(number, vm),
            name=vm_name(number, vm),
            host=host_name(number),
            power=Power.RUNNING,
            disks=(DiskMessage(name="vda", size=64 << 30),),
            memory_mib=4096,
            vcpus=2,
            unsupported="",
        )
        for vm in range(vms)
    )
    return HostReport(name=host_name(number), site="source", uri="qemu:///system", error="", vms=rows)


def percentile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]
