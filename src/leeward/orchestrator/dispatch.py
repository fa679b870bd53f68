"""Which conductor carries a run on: told by its id, since that is all that the engine keeps."""

from __future__ import annotations

from collections.abc import Callable

from leeward.domain.plan_rides import PLAN

Advance = Callable[[str], bool]


def dispatch(vms: Advance, plans: Advance) -> Advance:
    """One `advance` for the engine out of that of single VMs' runs and that of plans' runs."""
    return lambda run_id: plans(run_id) if run_id.startswith(PLAN) else vms(run_id)


def guarded(advance: Advance, may_act: Callable[[], None]) -> Advance:
    """may_act: does not return when this console may not act any more. Asked again at the end: what came of a step
    must not be told to the engine then, which would take the walk for ended."""

    def step(run_id: str) -> bool:
        may_act()
        more = advance(run_id)
        may_act()
        return more

    return step
