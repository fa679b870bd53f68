"""The agents of two sites, their hypervisors in memory, in a process of its own. Arguments: folder, two tokens.

The VM "web" lives at the office. A build at the recovery site waits for the file "gate". Each job that is begun and
done is a line in "log"; where clients reach the VM is kept in "running".
"""

import json
import sys
import time
from pathlib import Path

from tests.console.world import Place, World

from leeward.agent.enrolment import enrol
from leeward.agent.keys import load_keys
from leeward.agent.remote import AgentClient
from leeward.vault.stores.local import LocalStore
from leeward.wire.jobs import JobKind
from leeward.wire.tokens import read_token


class Sites(World):
    def __init__(self, folder):
        self.folder = folder
        self.store, self.keys = LocalStore(folder / "vault"), load_keys(folder)
        self.office = Place(self, "office", "source", folder / "office")
        self.recovery = Place(self, "recovery", "recovery", folder / "recovery")
        self.populate()

    def wrap(self, place, kind, task):
        def noted(context):
            self.note("begin", context)
            while kind is JobKind.COPY_BUILD and not (self.folder / "gate").exists():
                context.check()
                time.sleep(0.02)
            result = task(context)
            self.note("done", context)
            return result

        return noted

    def note(self, what, context):
        with (self.folder / "log").open("a") as file:
            file.write(f"{what} {context.job.kind} {context.job.id}\n")


def main(folder, *tokens):
    sites = Sites(folder)
    for place, token in zip((sites.office, sites.recovery), tokens, strict=True):
        place.folder.mkdir(exist_ok=True)
        enrol(place.folder, read_token(token), place.name)
        place.start_agent()
        AgentClient(place.folder, place.local).start()
    while True:
        new = folder / "running.new"
        new.write_text(json.dumps(sites.running()))
        new.replace(folder / "running")
        time.sleep(0.05)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
