"""What the API answers with about recovery plans; `docs/cli.md` documents these shapes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from leeward.domain.plan_runs import PlanState
from leeward.domain.plans import PlanKind


class PlanView(BaseModel):
    """document: as in docs/plans.md. troubles: why a run of it would fail as things are now. last_run: its newest."""

    name: str
    note: str
    vms: list[str]
    document: dict[str, Any]
    created: str
    changed: str
    troubles: list[str]
    last_run: PlanRunBrief | None


class PlanRunBrief(BaseModel):
    """complete: it came to its end, and nothing failed."""

    id: str
    kind: PlanKind
    state: PlanState
    complete: bool
    created: str
    ended: str | None
    failure: str


class PlanStepView(BaseModel):
    """group, vm: names, "" where a step is of none. tells: what it does, for people. state: waiting, running, done,
    failed or skipped. waived: it failed, and the run goes on all the same. started: UTC seconds; seconds: how long it
    took. run: the run of one VM that carries it (`leeward failover show`). output: the end of what a script said."""

    key: str
    act: str
    group: str
    vm: str
    vm_id: str
    tells: str
    state: str
    attempt: int
    waived: bool
    started: float | None
    seconds: float | None
    detail: str
    output: str
    by: str
    run: str


class PlanRunView(BaseModel):
    """One run of a plan (docs/plans.md). waits_for: name of the group that it waits for an approval of, or "".

    back: the steps of aborting, or of cleaning up. wish: "pause" or "abort" when that was asked for and is not heeded
    yet. rto_s: from the request until the last VM had come up and its checks had passed; None until then. notes: to
    which instant the VMs of consistency groups come back, in words.
    """

    id: str
    plan: str
    kind: PlanKind
    state: PlanState
    complete: bool
    by: str
    created: str
    ended: str | None
    failure: str
    wish: str
    waits_for: str
    steps: list[PlanStepView]
    back: list[PlanStepView]
    rto_s: float | None
    notes: list[str]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class PlanRunRequest(_Request):
    """point: latest or app (the newest app-consistent one); a planned run always takes the latest. to: name of a
    recovery host. force, timeout_s, newest: see FailoverRequest; newest counts in tests too."""

    kind: PlanKind
    point: str = Field(default="latest", pattern="^(latest|app)$")
    to: str | None = None
    newest: bool | None = None
    force: bool | None = None
    timeout_s: float | None = Field(default=None, gt=0, le=3600)


class PlanAskRequest(_Request):
    """run: which run is meant, where a test and another run of one plan both could be."""

    run: str | None = None


class PlanApproveRequest(PlanAskRequest):
    """group: refuse unless it is this group that waits. note: kept with the approval."""

    group: str | None = None
    note: str = Field(default="", max_length=500)


class PlanRetryRequest(PlanAskRequest):
    """skip: go on without what failed. force, timeout_s: what is to be otherwise this time."""

    skip: bool = False
    force: bool | None = None
    timeout_s: float | None = Field(default=None, gt=0, le=3600)


PlanView.model_rebuild()
