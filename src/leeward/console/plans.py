"""Recovery plans as the console keeps them: made, changed, shown, and told to the vault."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache, partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from leeward.console.checks import VaultOpener
from leeward.console.drill_documents import adopted_schedule, document_of
from leeward.console.fleet import Fleet
from leeward.console.plan_documents import FindVm, look_over, read_plan
from leeward.console.plan_runs import PlanRuns
from leeward.console.plan_scripts import Scripts
from leeward.console.plan_showing import plan_view
from leeward.console.plan_views import PlanView
from leeward.console.renaming import names_now
from leeward.console.telling import Teller
from leeward.domain.drills import subject_of
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused
from leeward.domain.plan_asks import busy
from leeward.domain.plan_runs import OPEN
from leeward.domain.plans import Fault, Member, Plan, renamed
from leeward.logs import log
from leeward.state.database import Database
from leeward.state.plans import Changed, KeptPlan

# The vault's document, beside each VM, of the plans that it is in, for a console that knows nothing else.
PLANS = "plans"
_PLANS = TypeAdapter(list[Plan])


class Plans:
    """runs: what is done with them."""

    def __init__(
        self, database: Database, fleet: Fleet, vault: VaultOpener, scripts: Scripts, runs: PlanRuns
    ) -> None:
        self._database = database
        self._plans = database.plans
        self._fleet = fleet
        self._vault = vault
        self.teller = Teller(vault)
        self._scripts = scripts
        self.runs = runs

    def all(self) -> list[PlanView]:
        return [self._view(kept) for kept in self._plans.all()]

    def get(self, name: str) -> PlanView:
        return self._view(self._plans.plan(name))

    def create(self, document: Any, by: str) -> PlanView:
        """Raises BadInput, which names the field that cannot be used; Refused when the name is taken."""
        kept = self._plans.add(self._read(document))
        self._database.record("plan created", kept.plan.name, who=by)
        self._publish(kept.plan.members)
        return self._view(kept)

    def replace(self, name: str, document: Any, by: str) -> PlanView:
        """Runs that are under way keep the plan that they began with."""
        plan = self._read(document)
        if plan.name != name:
            raise BadInput(f"name: the plan to replace is called {name!r}", subject=plan.name)
        return self._change(name, plan, None, by)

    def kept(self, name: str) -> KeptPlan:
        """Raises NotFound."""
        return self._plans.plan(name)

    def change(self, name: str, document: Any, seen: str | None, by: str) -> PlanView:
        """As somebody saw it who changes it, see `leeward.state.plans.Plans.change`; it may get another name."""
        return self._change(name, self._read(document), seen, by)

    def _change(self, name: str, plan: Plan, seen: str | None, by: str) -> PlanView:
        before = self._plans.plan(name).plan
        kept = self._plans.change(name, plan, seen)
        detail = f"renamed to {plan.name}" if plan.name != name else ""
        self._database.record("plan changed", name, detail, by)
        self._publish({*before.members, *plan.members})
        return self._view(kept)

    def follow_names(self) -> list[str]:
        """Plans are of VMs, and show how these are called now; names of those that were changed. What is left, since
        somebody else changes it at this moment, is done with the next look."""
        names, changed = self.vms(), []
        for kept in self._plans.all():
            plan = renamed(kept.plan, names)
            if plan == kept.plan:
                continue
            try:
                self._plans.change(plan.name, plan, kept.digest)
            except (Changed, NotFound):
                continue
            self._publish(plan.members)
            changed.append(plan.name)
        return changed

    def look_over(self, document: Any) -> list[Fault]:
        """All that is wrong with a document; nothing is kept."""
        return look_over(document, self._finder(), self._scripts.path)[1]

    def vms(self) -> dict[str, str]:
        """VM id → name, of what a plan can have in it."""
        return {wish.vm_id: wish.vm_name for wish in self._database.desired().protections}

    def scripts(self) -> list[str]:
        """Names of those that can be run."""
        return self._scripts.names()

    def delete(self, name: str, by: str) -> None:
        plan = self._plans.plan(name).plan
        for run in self._plans.find(plan=name, states=OPEN):
            why, hint = busy(run)
            raise Refused(why, subject=name, hint=hint)
        self._plans.remove(name)
        self._database.record("plan deleted", name, who=by)
        self._publish(plan.members)

    # --- insides --------------------------------------------------------------------------------------

    def _read(self, document: Any) -> Plan:
        return read_plan(document, self._finder(), self._scripts.path)

    def _finder(self) -> FindVm:
        """For one document: what is protected is asked for once, however many VMs it names."""
        fleet = self._fleet.view()
        names = names_now(self._database.desired().protections, fleet)

        def find_vm(ref: str) -> Member:
            found = [Member(vm_id, name) for vm_id, name in names.items() if ref in (vm_id, name)]
            if len(found) > 1:
                raise BadInput(f"{len(found)} VMs are called {ref}: use the id")
            if not found:
                present = any(ref in (vm.id, vm.name) for vm in fleet.vms)
                raise NotFound(f"{ref} is not protected" if present else f"there is no protected VM {ref}")
            return found[0]

        return find_vm

    def _view(self, kept: KeptPlan) -> PlanView:
        last = next(iter(self._plans.find(plan=kept.plan.name, limit=1)), None)
        return plan_view(kept, self._troubles(kept.plan), last)

    def _troubles(self, plan: Plan) -> list[str]:
        """Why a run of the plan would fail, as far as that can be seen from here."""
        protected = self._database.wishes()
        found = [f"{vm.vm_name} is not protected any more" for vm in plan.members if vm.vm_id not in protected]
        for group in plan.groups:
            for script in (*group.before, *group.after):
                try:
                    self._scripts.path(script.file)
                except LeewardError as error:
                    found.append(f"{error.subject}: {error.message}")
        return found

    def tell(self, name: str) -> None:
        """The vault, of a plan whose schedule is another now. Raises NotFound."""
        self._publish(self._plans.plan(name).plan.members)

    # --- the vault ------------------------------------------------------------------------------------

    def _publish(self, members: Iterable[Member]) -> None:
        """Write beside each VM which plans it is in, and by which schedules these are tested."""
        plans = cache(lambda: [kept.plan for kept in self._plans.all()])  # read once, when the first is written
        schedule = cache(lambda plan: document_of(self._database.drills.schedule(subject_of(plan))))

        def document(vm_id: str) -> dict[str, Any]:
            having = [plan for plan in plans() if any(vm.vm_id == vm_id for vm in plan.members)]
            drills = {plan.name: schedule(plan.name) for plan in having if schedule(plan.name)}
            return {"plans": _PLANS.dump_python(having, mode="json"), "drills": drills}

        self.teller.tell(PLANS, {member.vm_id: partial(document, member.vm_id) for member in members})

    def adopt(self) -> list[str]:
        """Plans that the vault knows and this console does not, with their schedules; their names. A plan that is
        known stays as it is."""
        vault = self._vault.open()
        known = {kept.plan.name for kept in self._plans.all()}
        found: dict[str, tuple[Plan, Any]] = {}
        for wish in self._database.desired().protections:
            try:
                document = vault.document(wish.vm_id, PLANS) or {}
                drills = document.get("drills", {})
                for plan in _PLANS.validate_python(document.get("plans", []), strict=False):
                    found.setdefault(plan.name, (plan, drills.get(plan.name)))
            except (LeewardError, ValidationError, AttributeError) as error:
                log.warning("plans in the vault cannot be read", vm=wish.vm_name, error=str(error))
        new = [name for name in sorted(found) if name not in known]
        for name in new:
            plan, drill = found[name]
            self._plans.add(plan)
            schedule = adopted_schedule(subject_of(name), drill, time.time())
            if schedule is not None:
                self._database.drills.put(schedule)
            self._database.record("plan adopted from the vault", name, who="leeward")
        return new
