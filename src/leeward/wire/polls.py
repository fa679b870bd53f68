"""What crosses the line between an agent and its console. The agent always asks; the console only answers. Version 1.

Two lines, so that facts never wait behind a held question:

- *tell*: what has changed of what the agent knows, answered at once. Facts come in sections, each complete and with a
  number that grows within one run of the agent, so that an older message never undoes a newer one and a console that
  has lost its memory can say which sections it wants again.
- *poll*: held by the console until there is something to do. Orders are worked out from this one message (which
  desired state and which jobs the agent holds), and the agent carries an answer out before it asks again. So an
  answer that is lost is simply given again, and one that comes late cannot start a job a second time.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from leeward.wire.jobs import Job, JobReport
from leeward.wire.messages import WIRE_VERSION, AgentReport, DesiredState, HostReport, Message, PlaceMessage

# Longer ones would be cut by firewalls that forget silent connections.
HOLD_S = 20.0


class Section(StrEnum):
    REPORT = "report"
    HOSTS = "hosts"
    JOBS = "jobs"


class Tell(Message):
    """run: a random name of this run of the agent. numbers: of every section as the agent has it now, sent or not."""

    version: int = WIRE_VERSION
    run: str = Field(min_length=1, max_length=64)
    software: str = Field(default="", max_length=64)
    numbers: dict[Section, int]
    report: AgentReport | None = None
    hosts: tuple[HostReport, ...] | None = None
    jobs: tuple[JobReport, ...] | None = None


class Told(Message):
    """want: sections that the console does not have in the number that the agent named."""

    version: int = WIRE_VERSION
    want: tuple[Section, ...] = ()


class Poll(Message):
    """generation: of the desired state that the agent holds. held: its jobs, in any state, that it has not let go of.

    numbers: sections as far as the console has taken them. consoles: the addresses that the agent was last told.
    place: revision of the vault's place that it holds, 0 for none; None: its own configuration says where the vault
    is.
    """

    version: int = WIRE_VERSION
    run: str = Field(min_length=1, max_length=64)
    wait_s: float = Field(default=HOLD_S, ge=0, le=60)
    generation: int
    held: tuple[str, ...] = ()
    numbers: dict[Section, int] = Field(default_factory=dict)
    consoles: tuple[str, ...] = Field(default=(), max_length=16)
    place: int | None = None


class Orders(Message):
    """desired: newer than what the agent holds, or None. jobs: to be begun. releases: jobs to let go of.

    want: sections to be told again. renew: it is time for the next certificate. consoles: where the agent finds a
    console if not here, in place of what it was told before; empty for no news. place: newer than what the agent
    holds, or None; it has credentials.
    """

    version: int = WIRE_VERSION
    desired: DesiredState | None = None
    jobs: tuple[Job, ...] = ()
    releases: tuple[str, ...] = ()
    want: tuple[Section, ...] = ()
    renew: bool = False
    consoles: tuple[str, ...] = ()
    place: PlaceMessage | None = None

    @property
    def empty(self) -> bool:
        return not (
            self.desired or self.jobs or self.releases or self.want or self.renew or self.consoles or self.place
        )


class Enrol(Message):
    """secret: the token's, in hex. request: a certificate signing request (PEM). name: what the host calls itself."""

    version: int = WIRE_VERSION
    secret: str = Field(max_length=64)
    request: str = Field(max_length=8192)
    name: str = Field(min_length=1, max_length=255)


class Enrolled(Message):
    """certificate: PEM, for the request's key."""

    version: int = WIRE_VERSION
    agent_id: str
    name: str
    certificate: str


class Renew(Message):
    version: int = WIRE_VERSION
    request: str = Field(max_length=8192)


class Renewed(Message):
    version: int = WIRE_VERSION
    certificate: str
