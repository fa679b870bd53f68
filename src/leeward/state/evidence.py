"""Pictures of test failovers, kept when the tests are long gone: the newest few of each VM."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from leeward.domain.errors import NotFound
from leeward.domain.evidence import KEPT
from leeward.state.engine import reading
from leeward.state.tables import EvidenceRow


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one test. bytes: of its picture, 0 for none; why: there is none."""

    bytes: int
    why: str


class Evidence:
    """By the id of the test's run. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    def keep(self, run_id: str, vm_id: str, at: float, picture: bytes, why: str) -> None:
        """at: UTC seconds of the test. Harmless to repeat."""
        with Session(self._engine) as session:
            row = EvidenceRow(run_id=run_id, vm_id=vm_id, at=at, picture=picture, size=len(picture), why=why)
            session.merge(row)
            session.flush()
            newest = select(EvidenceRow.run_id).where(EvidenceRow.vm_id == vm_id)
            kept = session.scalars(newest.order_by(EvidenceRow.at.desc(), EvidenceRow.run_id).limit(KEPT)).all()
            session.execute(delete(EvidenceRow).where(EvidenceRow.vm_id == vm_id, EvidenceRow.run_id.not_in(kept)))
            session.commit()

    def of(self, run_ids: Collection[str]) -> dict[str, Kept]:
        columns = select(EvidenceRow.run_id, EvidenceRow.size, EvidenceRow.why)
        with Session(self._reading) as session:
            rows = session.execute(columns.where(EvidenceRow.run_id.in_(run_ids))).all()
        return {run_id: Kept(size, why) for run_id, size, why in rows}

    def picture(self, run_id: str) -> bytes:
        """PNG. Raises NotFound."""
        with Session(self._reading) as session:
            found = session.scalar(select(EvidenceRow.picture).where(EvidenceRow.run_id == run_id))
        if not found:
            raise NotFound("there is no picture of this test", subject=run_id)
        return bytes(found)
