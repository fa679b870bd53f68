"""A process that listens as the console does, with a small API behind; for tests that look at the listeners alone.

Its argument is JSON: folder, port; cert and key, else the folder's own authority; seconds: constants to shorten.
"""

import json
import sys
from pathlib import Path

from fastapi import FastAPI, Request

from leeward.console import listeners
from leeward.console.access import actor_of, everybody, guard, viewer
from leeward.console.authority import Authority
from leeward.console.errors import install
from leeward.console.identity import build_identity
from leeward.console.listeners import Https, server_names
from leeward.state.database import Database


def main():
    wanted = json.loads(sys.argv[1])
    folder = Path(wanted["folder"])
    for name, value in wanted.get("seconds", {}).items():
        setattr(listeners, name, value)
    database = Database(f"sqlite:///{folder}/leeward.db")
    identity = build_identity(database)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    install(app)
    guard(app, identity.gate, identity.trail)

    @app.get("/health", dependencies=everybody)
    def health() -> dict[str, str]:
        return {}

    @app.get("/me", dependencies=viewer)
    def me(request: Request) -> dict[str, str]:
        return {"who": actor_of(request).who}

    @app.post("/try", dependencies=everybody)
    def attempt(body: dict[str, str], request: Request) -> dict[str, str]:
        return {"address": actor_of(request).address}

    if "cert" in wanted:
        files = Path(wanted["cert"]), Path(wanted["key"])
        https = Https("127.0.0.1", wanted["port"], lambda: files)
    else:
        authority = Authority.open(folder / "authority")
        names = server_names("127.0.0.1", [])
        https = Https("127.0.0.1", wanted["port"], lambda: authority.server_files(names))
    print("ready", flush=True)
    listeners.serve(app, folder / "socket", https)
    database.close()
    print("ended well", flush=True)


if __name__ == "__main__":
    main()
