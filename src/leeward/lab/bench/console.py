"""How fast a console with very many VMs answers, while their agents tell it of new points."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from leeward.domain.errors import LeewardError
from leeward.lab.bench.agents import cpu_s, memory, vm_id, vm_name
from leeward.lab.bench.console_agents import TELL_EVERY_S
from leeward.lab.tools import MORTAL

_USERS = 4  # side by side
_CHANGES = 20
_PAUSE_S = 0.2  # between two questions of one user
# The console closes connections on which nothing was said for five seconds: one that it is about to close must not be
# taken for the next question.
_LIMITS = httpx.Limits(keepalive_expiry=2.0)


@dataclass(slots=True)
class ConsoleFigures:
    """answers: question → seconds of each answer. cores, page_cores: of the console's process while its API or its
    pages were asked for. updates: seconds until an open page shows a change."""

    agents: int
    vms: int
    cores: float = 0.0
    page_cores: float = 0.0
    memory: int = 0
    answers: dict[str, list[float]] = field(default_factory=dict)
    updates: list[float] = field(default_factory=list)


def measure(agents: int, vms: int, seconds: float, note: Callable[[str], None]) -> ConsoleFigures:
    """vms: of each agent. seconds: for which users ask, first the API and then for pages, with new points of every VM
    every five seconds."""
    with tempfile.TemporaryDirectory(prefix="leeward-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        note(f"Making a console with {agents:,} agents and {agents * vms:,} protected VMs")
        console, said = _process(stack, "console_process", folder, agents, vms)
        if not said:
            raise LeewardError("the console did not start")
        note("Connecting")
        tellers, connected = _process(stack, "console_agents", folder, int(said), vms)
        if not connected:
            raise LeewardError("the agents could not connect")
        figures = asyncio.run(_run(folder, console.pid, ConsoleFigures(agents, agents * vms), vms, seconds, note))
        if tellers.poll() is not None:
            raise LeewardError("an agent's line broke", hint="Is the machine busy with something else?")
        return figures


def _process(stack: ExitStack, module: str, *words: object) -> tuple[subprocess.Popen[str], str]:
    """It, and the first line that it has said: "" when it ended before."""
    command = [*MORTAL, sys.executable, "-m", f"leeward.lab.bench.{module}", *map(str, words)]
    made = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(made.terminate)
    assert made.stdout is not None
    return made, made.stdout.readline().strip()


async def _run(
    folder: Path, pid: int, figures: ConsoleFigures, vms: int, seconds: float, note: Callable[[str], None]
) -> ConsoleFigures:
    await asyncio.sleep(TELL_EVERY_S)
    note("Asking")
    cpu, began = cpu_s(pid), time.monotonic()
    transport = httpx.AsyncHTTPTransport(uds=str(folder / "socket"), limits=_LIMITS)
    async with httpx.AsyncClient(transport=transport, base_url="http://console", timeout=60) as http:
        await asyncio.gather(*(_user(http, figures, _api, vms, seconds) for _ in range(_USERS)))
        figures.cores = (cpu_s(pid) - cpu) / (time.monotonic() - began)
        # By themselves: while somebody looks at them a picture of everything is taken twice a second.
        note("Looking at pages")
        for _, method, path in _pages(figures, 0, 0):
            await http.request(method, path)  # a template is compiled when it is first used
        cpu, began = cpu_s(pid), time.monotonic()
        await asyncio.gather(*(_user(http, figures, _pages, vms, seconds) for _ in range(_USERS)))
        figures.page_cores = (cpu_s(pid) - cpu) / (time.monotonic() - began)
        note("Changing what open pages show")
        figures.updates = await _updates(http, figures.agents, vms)
    figures.memory = memory(pid)
    return figures


async def _updates(http: httpx.AsyncClient, agents: int, vms: int) -> list[float]:
    """Seconds from asking for a change of a VM's policy until an open page of another reader shows it."""
    found = []
    for number in range(_CHANGES):
        agent, vm = random.randrange(agents), random.randrange(vms)
        row = f'<tr id="vm-{vm_id(agent, vm)}"'
        async with http.stream("GET", f"/recovery/live?q={vm_name(agent, vm)}") as live:
            lines = live.aiter_lines()
            await _until(lines, row)  # all that the page shows, once
            await asyncio.sleep(random.uniform(1, 2))
            began = time.monotonic()
            body = {"rpo_s": 60 + number}  # other than by the questions before
            (await http.put(f"/api/v1/vms/{vm_id(agent, vm)}/protection", json=body)).raise_for_status()
            await _until(lines, row)
            found.append(time.monotonic() - began)
    return found


async def _until(lines: AsyncIterator[str], text: str) -> None:
    """Reads to the end of the event that has it: one that is sent at first has the row twice."""
    found = False
    async for line in lines:
        found = found or text in line
        if found and not line:
            return
    raise LeewardError("a page's stream ended")


Question = tuple[str, str, str]  # what it is called in the figures, method, path


def _api(figures: ConsoleFigures, agent: int, vm: int) -> list[Question]:
    offset = random.randrange(max(1, figures.vms // 50)) * 50
    questions = [
        ("a page of 50 VMs", "GET", f"/status?limit=50&offset={offset}"),
        ("a search, first 50", "GET", f"/status?limit=50&search=-{vm}"),
        ("one VM by name", "GET", f"/status?vm={vm_name(agent, vm)}"),
        ("one VM by id", "GET", f"/status?vm={vm_id(agent, vm)}"),
        ("a page of 50 VMs of the hosts", "GET", f"/vms?limit=50&offset={offset}&order=host"),
        ("all hosts", "GET", "/hosts"),
        ("the last 50 runs", "GET", "/runs?limit=50"),
        ("the last 100 events", "GET", "/events?limit=100"),
        ("a change of policy", "PUT", f"/vms/{vm_id(agent, vm)}/protection"),
    ]
    return [(name, method, f"/api/v1{path}") for name, method, path in questions]


def _pages(figures: ConsoleFigures, agent: int, vm: int) -> list[Question]:
    page = random.randrange(max(1, figures.vms // 50)) + 1
    return [
        ("page: Home", "GET", "/"),
        ("page: Recovery", "GET", f"/recovery?page={page}"),
        ("page: Recovery, a search", "GET", f"/recovery?q=-{vm}"),
        ("page: a VM", "GET", f"/vms/{vm_id(agent, vm)}"),
        ("page: Failover of a VM", "GET", f"/failover?vm={vm_id(agent, vm)}"),
        ("page: Runs", "GET", "/runs"),
    ]


async def _user(
    http: httpx.AsyncClient,
    figures: ConsoleFigures,
    questions: Callable[[ConsoleFigures, int, int], list[Question]],
    vms: int,
    seconds: float,
) -> None:
    """Asks one thing after another, of other VMs and in another order each time: users are not in step."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        wanted = questions(figures, random.randrange(figures.agents), random.randrange(vms))
        for question, method, path in random.sample(wanted, len(wanted)):
            began = time.monotonic()
            body = {"rpo_s": random.randrange(5, 60)} if method == "PUT" else None
            answer = await http.request(method, path, json=body)
            if answer.status_code != 200:
                raise LeewardError(f"the console answered {answer.status_code}: {answer.text[:200]}", subject=path)
            figures.answers.setdefault(question, []).append(time.monotonic() - began)
            await asyncio.sleep(_PAUSE_S)
