"""A console's agents, or an agent, in a process of its own, to be killed at any instant.

A console answers commands, both JSON lines, by standard input and output. An agent's jobs write "begin ID" and
"end ID" into FOLDER/log.
"""

import json
import os
import sys
import threading
import time

from leeward.agent.agent import Agent, Source
from leeward.agent.config import HostConfig
from leeward.agent.jobs import JobRunner
from leeward.agent.ledger import Ledger
from leeward.agent.link import LocalAgent
from leeward.agent.remote import AgentClient
from leeward.agent.worker import Services
from leeward.console.agent_views import TokenRequest
from leeward.console.agents import Agents
from leeward.console.agents_server import AgentsServer
from leeward.console.authority import Authority
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.replication.pool import CopyPool
from leeward.state.database import Database
from leeward.wire.jobs import Job, JobKind
from leeward.wire.messages import DesiredState, StandDownMessage


def console(folder, port):
    database = Database(f"sqlite:///{folder}/console.db")
    authority = Authority.open(folder / "authority")
    agents = Agents(database, authority, f"https://127.0.0.1:{port}")
    server = AgentsServer(agents, authority, f"127.0.0.1:{port}", ["127.0.0.1"])
    agents.start()
    server.start()
    for line in sys.stdin:
        print("answer", json.dumps(_answer(agents, json.loads(line))), flush=True)


def _answer(agents, command):
    if "token" in command:
        return agents.new_token(TokenRequest()).token
    [link] = agents.links()
    if "submit" in command:
        link.submit(Job(id=command["submit"], kind=JobKind.START, vm_id=command["vm"], host="office"))
    if "generation" in command:
        off = StandDownMessage(vm_id="v", vm_name="v", host="elsewhere", reason=str(command["generation"]))
        link.apply(DesiredState(generation=command["generation"], standdowns=(off,)))
    if "release" in command:
        link.release(command["release"])
    report = link.job(command.get("job", ""))
    return {
        "job": report.state if report else None,
        "generation": link.report().generation,
        "present": link.present,
    }


def agent(folder):
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def task(context):
        os.write(log, f"begin {context.job.id}\n".encode())
        time.sleep(0.05)
        os.write(log, f"end {context.job.id}\n".encode())
        return {}

    hosts = {"office": Source(HostConfig("office", "source", "memory"), MemoryHypervisor("office"))}
    made = Agent("office", hosts, None, Ledger(folder / "agent.json"), Services("office", CopyPool.make(1)), None)
    jobs = JobRunner(folder / "jobs", {JobKind.START: task})
    client = AgentClient(folder, LocalAgent(made, jobs, {}))
    made.start()
    jobs.start()
    client.start()
    threading.Event().wait()


def live(given, told, folder, port):
    """port: a console's; None for an agent."""
    sys.stdin = os.fdopen(os.dup(given.fileno()))
    os.dup2(told.fileno(), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    told.close()
    if port:
        console(folder, port)
    else:
        agent(folder)
