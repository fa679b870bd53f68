"""A console's agents' listener in a process of its own, for the load bench.

    python -m leeward.lab.bench.agents_console FOLDER COUNT

Enrols COUNT agents at once, leaves what they need in FOLDER/agents.json, prints its port and serves until its
standard input ends. A line with a number gives the agent of this number a job.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from leeward.console.agents import Agents
from leeward.console.agents_server import AgentsServer
from leeward.console.authority import Authority
from leeward.lab.bench.agents import host_name
from leeward.logs import log
from leeward.state.agents import AgentRecords
from leeward.state.clock import now
from leeward.state.database import Database
from leeward.state.tables import AgentRow
from leeward.wire.jobs import Job, JobKind


def main(folder: Path, count: int) -> None:
    log.quiet()
    database = Database(f"sqlite:///{folder}/console.db")
    authority = Authority.open(folder / "authority")
    names = [host_name(number) for number in range(count)]
    enrol_all(database, authority, names, folder)
    agents = Agents(database, authority, "https://127.0.0.1:1")
    server = AgentsServer(agents, authority, "127.0.0.1:0", ["127.0.0.1"])
    agents.start()
    server.start()
    print(server.port, flush=True)
    links = {link.name: link for link in agents.links()}
    for line in sys.stdin:
        number, job_id = line.split()
        links[names[int(number)]].submit(Job(id=job_id, kind=JobKind.START, vm_id="vm", host="host"))
    server.stop()
    agents.stop()


def enrol_all(database: Database, authority: Authority, names: list[str], folder: Path) -> None:
    """What enrolment does, in one transaction and with one key for all, since its time is not what is measured."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    csr = request.public_bytes(serialization.Encoding.PEM)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    with database.session() as session:
        session.add_all([AgentRow(id=name, name=name, enrolled=now()) for name in names])
        session.commit()
    certificates = [authority.issue_agent(csr, name).decode() for name in names]
    document = {"key": pem, "authority": authority.ca_pem.decode(), "certificates": certificates}
    (folder / "agents.json").write_text(json.dumps(document))
    assert len(AgentRecords(database).all()) == len(names)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
