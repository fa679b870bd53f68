"""Processes that live for seconds: forked off one that has imported all they need, which would take longer."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(  # what is set last holds for all
    [
        "tests.console.line_process",
        "tests.orchestrator.engine_victim",
        "tests.orchestrator.plan_process",
        "tests.replication.killable",
        "dbos",
        "alembic.command",
    ]
)
