"""A console reduced to engine, database and conductor of plans, as a process that can be killed for real.

Its VMs' runs have two steps each, told in a file. `main(FOLDER)` goes on with the plan's run, which
it begins when there is none, and ends when that has ended.
"""

import time
from dataclasses import replace

from leeward.domain.plan_layout import new_run
from leeward.domain.plan_runs import ENDS, PlanRun
from leeward.domain.plans import Group, Member, Plan, PlanKind
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState
from leeward.orchestrator.dispatch import dispatch
from leeward.orchestrator.engine import Engine
from leeward.orchestrator.plan_conductor import PlanConductor
from leeward.state.database import Database

PLAN = Plan(
    "shop",
    tuple(
        Group(f"g{g}", tuple(Member(f"{g}.{v}", f"vm{g}.{v}") for v in range(2)), delay_s=0.3 * (g > 0))
        for g in range(3)
    ),
)
RUN = "plan-5b0fd1c8a2e3"


class Ground:
    def __init__(self, folder):
        self.database = Database(f"sqlite:///{folder}/leeward.db")
        self.file = (folder / "told").open("a")

    def say(self, text):
        self.file.write(f"{text}\n")
        self.file.flush()

    # --- what the conductor of plans asks for -----------------------------------------------------------

    def ride(self, run_id):
        found = [run for run in self.database.runs.find() if run.id == run_id]
        return found[0] if found else None

    def is_away(self, vm_id):
        return False

    def begin(self, run, member, run_id, hold):
        if self.ride(run_id) is None:
            self.say(f"begin {member.vm_id} {run_id}")
            ride = Run(run_id, member.vm_id, member.vm_name, Kind.TEST, "a", "b", "latest", "anna", time.time())
            self.database.runs.add(ride)
        self.engine.walk(run_id)

    def hold(self, ride, step):
        pass

    def tell(self, run, what, detail=""):
        pass

    # --- the runs of VMs --------------------------------------------------------------------------------

    def advance(self, run_id):
        ride = self.ride(run_id)
        if ride.over:
            return False
        done = ride.options.get("done", 0)
        self.say(f"step {ride.vm_id} {done}")
        time.sleep(0.05)
        state = RunState.DONE if done == 1 else RunState.RUNNING
        self.database.runs.replace(run_id, lambda now: replace(now, options={"done": done + 1}, state=state))
        return done == 0


def main(folder):
    ground = Ground(folder)
    plans = ground.database.plans
    conductor = PlanConductor(plans, ground)
    ground.engine = Engine(f"sqlite:///{folder}/engine.db", "console", dispatch(ground.advance, conductor.advance))
    ground.engine.launch()
    if not plans.find():
        kept = plans.add(PLAN) if not plans.all() else plans.plan("shop")
        plans.begin(kept, new_run(PlanRun(RUN, PLAN, PlanKind.TEST, "anna", time.time())))
    # As `Failovers.revive` and `PlanRuns.revive` do.
    walking = ground.engine.walking()
    for run in [*ground.database.runs.find(states=[RunState.RUNNING]), *plans.find()]:
        if run.id not in walking:
            ground.engine.walk(run.id)
    while plans.plan_run(RUN).state not in ENDS:
        time.sleep(0.02)
    ground.engine.shutdown()
