"""Commands as a script calls them, in this process, against a console in memory behind a real socket."""

import json
import threading
import time
from contextlib import contextmanager

import uvicorn

from leeward.cli.main import main
from leeward.console.gate import LOCAL_SCOPE


def configure(folder, monkeypatch):
    """A leeward.toml that leads to the console's socket in this folder, and a wide terminal."""
    (folder / "state").mkdir()
    file = folder / "leeward.toml"
    file.write_text(f'[daemon]\nstate = "{folder}/state"\n')
    monkeypatch.setenv("LEEWARD_CONFIG", str(file))
    monkeypatch.setenv("COLUMNS", "200")
    return file


@contextmanager
def behind_socket(app, folder, capsys):
    """`call("status", …)` → (exit code, standard output, standard error)."""

    async def local(scope, receive, send):  # as the daemon marks what comes through its socket
        await app({**scope, LOCAL_SCOPE: True}, receive, send)

    socket = str(folder / "state" / "leeward.sock")
    server = uvicorn.Server(uvicorn.Config(local, uds=socket, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        told = capsys.readouterr()
        return code, told.out, told.err

    yield call
    server.should_exit = True
    thread.join(10)


def answer(told):
    code, out, err = told
    assert code == 0, (out, err)
    return json.loads(out)
