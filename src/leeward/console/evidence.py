"""What test failovers have shown, put together from their runs, their pictures and the plans that began them."""

from __future__ import annotations

from leeward.console.views import EvidenceView, ProofView
from leeward.domain.errors import NotFound
from leeward.domain.evidence import KEPT, Proof, outcome, point_time, proofs, rpo_s, rto_s
from leeward.domain.plan_runs import PlanRun
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run
from leeward.state.database import Database
from leeward.state.evidence import Kept
from leeward.wire.translate import utc_of, when

_NOT_TAKEN = Kept(0, "")


class EvidenceBook:
    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, vm_id: str) -> list[EvidenceView]:
        """The VM's newest tests, newest first."""
        runs = self._database.runs.find(vm_id=vm_id, kinds=(Kind.TEST,), limit=KEPT)
        kept = self._database.evidence.of([run.id for run in runs])
        return [self._view(run, kept.get(run.id, _NOT_TAKEN)) for run in runs]

    def one(self, vm_id: str, run_id: str) -> EvidenceView:
        """Raises NotFound."""
        run = self._database.runs.run(run_id)
        if run.vm_id != vm_id or run.kind is not Kind.TEST:
            raise NotFound("there is no such test of this VM", subject=run_id)
        return self._view(run, self._database.evidence.of([run_id]).get(run_id, _NOT_TAKEN))

    def picture(self, vm_id: str, run_id: str) -> bytes:
        """PNG. Raises NotFound."""
        self.one(vm_id, run_id)
        return self._database.evidence.picture(run_id)

    def _view(self, run: Run, kept: Kept) -> EvidenceView:
        plan_run = self._plan_run(run)
        return evidence_view(run, proofs(run, plan_run), kept, plan_run.plan.name if plan_run else "")

    def _plan_run(self, run: Run) -> PlanRun | None:
        if not run.options.get("plan"):
            return None
        try:
            return self._database.plans.plan_run(str(run.options["plan"]))
        except NotFound:
            return None


def evidence_view(run: Run, seen: tuple[Proof, ...], kept: Kept, plan: str = "") -> EvidenceView:
    """Pure."""
    return EvidenceView(
        run=run.id,
        vm=run.vm_name,
        vm_id=run.vm_id,
        time=utc_of(run.created),
        ended=when(run.ended),
        by=run.by,
        plan=plan,
        host=run.away,
        copy_name=str(run.result("build").get("copy", "")),
        point=str(run.result("build").get("point") or run.point),
        point_time=when(point_time(run)),
        outcome=outcome(run, seen).value,
        failure=run.failure,
        checks=[ProofView(what=proof.what, passed=proof.passed, detail=proof.detail) for proof in seen],
        rto_s=rto_s(run),
        rpo_s=rpo_s(run),
        rpo_target_s=run.options.get("rpo_target_s"),
        picture_bytes=kept.bytes,
        no_picture=kept.why,
    )
