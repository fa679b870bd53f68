"""Programs that the lab runs, with one kind of error when they fail or are missing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from leeward.domain.errors import LeewardError, NotFound

_HINT = "Install the system packages first: make system"
# In front of a command: it is killed when the thread that began it ends, be it by a kill of ours. (util-linux)
MORTAL = ("setpriv", "--pdeathsig", "KILL")


def run(
    argv: Sequence[str | Path | int], *, cwd: Path | None = None, stdin: bytes | None = None, timeout_s: float = 600
) -> str:
    """Run a program and return its standard output. Raises NotFound (no such program) or LeewardError.

    The program dies with us: when we are killed, nothing goes on making what the next run makes anew. (Daemons that
    it leaves behind by forking live on.)
    """
    words = [str(word) for word in argv]
    if not shutil.which(words[0]):
        raise NotFound(f"the program {words[0]} is not installed", hint=_HINT)
    try:
        done = subprocess.run(
            [*MORTAL, *words], cwd=cwd, input=stdin, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise LeewardError(f"no end within {timeout_s:g} s", subject=" ".join(words[:4])) from None
    if done.returncode:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["no message"]
        raise LeewardError(f"exit code {done.returncode}: {lines[-1]}", subject=" ".join(words[:6]))
    return done.stdout.decode(errors="replace")
