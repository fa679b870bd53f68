"""What the engine's tests kill."""

import os

from tests.forks import FORKS
from tests.orchestrator import engine_victim, plan_process


class Victim:
    """`engine_victim.main` with these arguments. out: what it prints."""

    def __init__(self, log, *arguments):
        reading, writing = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=_live, args=(writing, log, *arguments), daemon=True)
        self.process.start()
        writing.close()
        self.pid, self.out = self.process.pid, os.fdopen(os.dup(reading.fileno()))
        reading.close()

    def alive(self):
        return self.process.is_alive()

    def wait(self, timeout_s=60):
        """→ exit code, or the negative number of the signal"""
        self.process.join(timeout_s)
        return self.process.exitcode


def _live(out, log, *arguments):
    os.dup2(out.fileno(), 1)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    engine_victim.main(*arguments)


def plan_victim(folder):
    process = FORKS.Process(target=plan_process.main, args=(folder,), daemon=True)
    process.start()
    return process
