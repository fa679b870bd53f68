"""A job runner in a process of its own, to be killed: `python jobs_victim.py FOLDER COUNT`.

Gives COUNT jobs to two VMs (the same ids each time), does them, prints one line an outcome. Each job's effect is one
line in FOLDER/effects, appended durably; harmless to repeat means here: a repeated line counts once.
"""

import os
import sys
import time
from pathlib import Path

from leeward.agent.jobs import JobRunner
from leeward.logs import log
from leeward.wire.jobs import Job, JobKind, JobState


def main(folder, count):
    log.quiet()
    folder = Path(folder)
    effects = os.open(folder / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def work(context):
        time.sleep(0.003)
        os.write(effects, f"{context.job.id}\n".encode())
        os.fsync(effects)
        time.sleep(0.003)
        return {"id": context.job.id}

    runner = JobRunner(folder / "jobs", dict.fromkeys(JobKind, work))
    runner.start()
    jobs = [
        Job(id=f"run/{number}", kind=JobKind.STOP, vm_id=f"vm{number % 2}", host="office") for number in range(count)
    ]
    for job in jobs:
        runner.submit(job)
    print("given", flush=True)
    for job in jobs:
        while (report := runner.job(job.id)).state is JobState.RUNNING:
            time.sleep(0.001)
        assert report.result == {"id": job.id}
        print(job.id, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
