"""Durable execution: a run that was begun is carried to its end, whatever dies in between.

DBOS does that, and nobody else in Leeward knows of it. What this rests on (measured with 3.4.0 on SQLite and
PostgreSQL 15): a workflow of a killed process is started again at the next launch of the same executor; its finished
steps are not done twice, the one under way is. A workflow that was begun under another application version is
silently left alone: so the version is a constant. Its default serializer is pickle: ours is JSON.
"""

from __future__ import annotations

import contextvars
import json
import threading
import uuid
from collections.abc import Callable
from typing import Any

from dbos import DBOS, DBOSConfig, Serializer, SetWorkflowID

_VERSION = "1"
_NAME = "leeward"
_SCHEMA = "leeward_engine"
# Of a console that was frozen in the middle of a transaction.
_IDLE_S = 10.0

Advance = Callable[[str], bool]


class _Json(Serializer):
    def serialize(self, data: Any) -> str:
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        return "leeward-json"


# DBOS registers workflows with the process, not with an object: what they call is the engine that was launched last.
_current: Advance | None = None


@DBOS.step(name="advance")
def _advance(run_id: str) -> bool:
    if _current is None:
        raise RuntimeError("no engine is launched")
    return _current(run_id)


@DBOS.workflow(name="walk")
def _walk(run_id: str) -> None:
    while _advance(run_id):
        pass


class Engine:
    """url: SQLAlchemy's, of a database for the engine alone, or of a PostgreSQL where it gets a schema of its own.
    executor: this console's name, the same after a restart.

    advance: takes a run one step further and says whether there is more (see `Conductor.advance`); its effects must
    be harmless to repeat.
    """

    def __init__(self, url: str, executor: str, advance: Advance) -> None:
        config: DBOSConfig = {
            "name": _NAME,
            "system_database_url": url,
            "dbos_system_schema": _SCHEMA,
            "sys_db_idle_transaction_timeout_sec": _IDLE_S,
            "application_version": _VERSION,
            "executor_id": executor,
            "serializer": _Json(),
            "log_level": "ERROR",
            "enable_otlp": False,
        }
        self._advance = advance
        self._executor = executor
        self._config = config
        self._lock = threading.Lock()

    def launch(self) -> None:
        """Begin to work, on what was left unfinished first."""
        global _current
        _current = self._advance
        DBOS(config=self._config)
        DBOS.launch()

    def shutdown(self) -> None:
        """Runs under way are left as they are; the next launch goes on with them."""
        global _current
        DBOS.destroy(destroy_registry=False)
        _current = None

    def walk(self, run_id: str) -> None:
        """Carry a run on, in the background, to where it ends or stalls. Two walks of one run do no harm.

        In a context of its own: a plan's run begins those of its VMs in a step of its own walk, where DBOS would
        allow no workflow to begin; these are not its children.
        """
        contextvars.Context().run(self._start, run_id)

    def _start(self, run_id: str) -> None:
        with self._lock, SetWorkflowID(f"{run_id}/{uuid.uuid4().hex[:12]}"):
            DBOS.start_workflow(_walk, run_id)

    def walking(self) -> set[str]:
        """Runs that are being carried on, here or at another console."""
        found = DBOS.list_workflows(status=["PENDING", "ENQUEUED"], load_input=False, load_output=False)
        return {status.workflow_id.rsplit("/", 1)[0] for status in found}

    def take_over(self) -> None:
        """Go on with what other executors left unfinished, which must not work any more. One that is only frozen and
        wakes loses its workflows all the same: the engine's database keeps who owns each."""
        found = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        others = {status.executor_id for status in found if status.executor_id} - {self._executor}
        if others:
            # Not public in DBOS 3.4; tests/orchestrator holds it to what we need of it.
            DBOS._recover_pending_workflows(sorted(others))
