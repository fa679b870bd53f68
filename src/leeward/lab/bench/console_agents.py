"""All agents of the console's bench, in a process of their own: they must not slow down who asks.

    python -m leeward.lab.bench.console_agents FOLDER PORT VMS

Connects the agents of FOLDER/agents.json, prints a line when all are there, and tells of new points of all VMs every
five seconds until SIGTERM. Ends with 1 when a line broke.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from leeward.lab.bench.agents import SimulatedAgent, agent_context, connect

TELL_EVERY_S = 5.0


async def main(folder: Path, port: int, vms: int) -> None:
    stored = json.loads((folder / "agents.json").read_text())
    agents = [
        SimulatedAgent(number, port, agent_context(folder, stored, certificate), vms)
        for number, certificate in enumerate(stored["certificates"])
    ]
    gate = asyncio.Semaphore(32)
    lines = await asyncio.gather(*(connect(gate, agent) for agent in agents))
    lines += [asyncio.create_task(agent.tell_every(TELL_EVERY_S)) for agent in agents]
    print("connected", flush=True)
    await asyncio.gather(*lines)  # which never end but by an error


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
