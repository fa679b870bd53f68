"""A console with HTTPS in a process of its own, on hypervisors in memory. Arguments: folder, port."""

import sys
import tempfile
from pathlib import Path

from tests.console.caller import FAST
from tests.console.world import World

from leeward.console import listeners
from leeward.console.api import build_api
from leeward.console.authority import Authority
from leeward.console.identity import build_identity
from leeward.console.listeners import Https


def main():
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as temporary:
        world = World(Path(temporary))
        authority = Authority.open(folder)
        identity = build_identity(world.database, (authority.ca_pem.decode(), authority.fingerprint), FAST)
        print(identity.reception.offer_setup()[0], flush=True)
        https = Https("127.0.0.1", port, lambda: authority.server_files(["127.0.0.1"]))
        listeners.serve(build_api(world.service, identity), folder / "socket", https)
        world.close()


if __name__ == "__main__":
    main()
