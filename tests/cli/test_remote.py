"""A console on another machine: trusted once, signed in to, asked; and everything that must not be believed."""

import json
import os
import pty
import re
import select
import socket
import ssl
import stat
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from tests.loopback import free_port

from leeward.cli import logins, main, remote
from leeward.cli.signing import fingerprint_of
from leeward.console.authority import Authority
from leeward.domain.errors import BadInput, LeewardError, Unavailable

# Real time, real processes: not for the fast suite.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PASSWORD = "a long enough password"


class Remote:
    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/cli/remote_console.py"), str(folder), str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.code = self.process.stdout.readline().strip()
        assert self.code
        self.fingerprint = Authority.open(folder).fingerprint
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert time.monotonic() < ends
                time.sleep(0.05)


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    made = Remote(tmp_path_factory.mktemp("c"))
    yield made
    made.process.terminate()
    made.process.wait(20)


@pytest.fixture
def leeward(tmp_path, monkeypatch, capsys):
    """leeward("status", …) → (exit code, document or text, what was said on standard error)"""
    for name in [name for name in os.environ if name.startswith("LEEWARD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LEEWARD_LAB", str(tmp_path / "no-lab"))
    monkeypatch.setattr("leeward.cli.config.SYSTEM_FILE", tmp_path / "absent.toml")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        code = main.main(list(words))
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, json.loads(said.out) if "--json" in words and said.out else said.out, said.err

    run.folder = tmp_path
    run.password = tmp_path / "password"
    run.password.write_text(f"{PASSWORD}\n")
    return run


@pytest.fixture
def anna(console, leeward):
    """Signed in as anna, the admin, who is made with the set-up code first."""
    words = ["login", console.url, "--user", "anna", "--password-file", str(leeward.password)]
    words += ["--fingerprint", console.fingerprint, "--json"]
    code, told, said = leeward(*words)
    if code:
        code, told, said = leeward(*words, "--setup-code", console.code)
    assert code == 0, said
    return told


def test_from_set_up_to_sign_out(console, leeward, anna):
    assert (anna["who"], anna["role"], anna["via"]) == ("anna", "admin", "cli")
    assert anna["fingerprint"] == console.fingerprint
    stored = leeward.folder / "config" / "leeward" / "logins.json"
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert PASSWORD not in stored.read_text()
    assert leeward("whoami", "--json")[1]["console"] == console.url
    assert [vm["name"] for vm in leeward("vm", "list", "--json")[1]] == ["web"]
    secret = json.loads(stored.read_text())["consoles"][console.url]["token"]
    assert leeward("logout", "--json")[1] == {"console": console.url, "told": True}
    assert secret not in stored.read_text()
    assert leeward("logout")[0] == 4
    code, _, said = leeward("--console", console.url, "vm", "list")
    assert (code, "not trusted" in said) == (1, True)


def test_users_and_tokens(console, leeward, anna, monkeypatch):
    assert leeward("user", "add", "ben", "--role", "viewer", "--password-file", str(leeward.password))[0] == 0
    assert leeward("user", "add", "ben", "--password-file", str(leeward.password))[0] == 4
    assert leeward("user", "role", "ben", "operator", "--json")[1]["role"] == "operator"
    assert {user["name"] for user in leeward("user", "list", "--json")[1]} == {"anna", "ben"}
    code, made, _ = leeward("token", "create", "night check", "--role", "operator", "--expires", "1h", "--json")
    assert code == 0
    assert leeward("token", "list", "--json")[1][0]["name"] == "night check"
    with monkeypatch.context() as patch:
        patch.setenv("LEEWARD_TOKEN", made["token"])
        assert leeward("whoami", "--json")[1]["who"] == "anna, token night check"
        code, told, _ = leeward("user", "list", "--json")
        assert (code, told["error"]["code"]) == (10, "forbidden")
    assert leeward("token", "revoke", "night check", "--json")[1]["id"] == made["id"]
    new = leeward.folder / "new"
    new.write_text("another long password\n")
    assert leeward("user", "passwd", "ben", "--password-file", str(new), "--json")[1]["state"] == "changed"
    assert leeward("user", "remove", "ben")[0] == 0
    assert leeward("user", "remove", "ben")[0] == 3
    assert leeward("user", "remove", "anna")[0] == 4
    assert leeward("user", "setup-code")[0] == 4
    rows = leeward("audit", "--limit", "3", "--json")[1]
    assert [(row["who"], row["what"], row["outcome"]) for row in rows] == [
        ("anna", "offer setup", "refused"),
        ("anna", "remove user", "refused"),
        ("anna", "remove user", "refused"),
    ]
    assert "refused" in leeward("audit")[1]
    assert leeward("audit", "--limit", "0")[0] == 2


def test_ones_own_password(console, leeward, anna):
    new = leeward.folder / "new"
    new.write_text("another long password\n")
    change = ["user", "passwd", "anna", "--password-file"]
    assert leeward(*change, str(new), "--current-file", str(new))[0] == 10
    assert leeward(*change, str(new), "--current-file", str(leeward.password))[0] == 0
    assert leeward("whoami")[0] == 0
    assert leeward(*change, str(leeward.password), "--current-file", str(new))[0] == 0


def test_a_program_needs_no_login(console, leeward, anna, monkeypatch):
    token = leeward("token", "create", "program", "--json")[1]["token"]
    leeward("logout")
    ca = leeward.folder / "ca.pem"
    ca.write_bytes(Authority.open(console.folder).ca_pem)
    monkeypatch.setenv("LEEWARD_CONSOLE", console.url)
    monkeypatch.setenv("LEEWARD_TOKEN", token)
    assert leeward("vm", "list")[0] == 1
    monkeypatch.setenv("LEEWARD_CA", str(ca))
    assert leeward("vm", "list", "--json")[1][0]["name"] == "web"
    monkeypatch.setenv("LEEWARD_TOKEN", "lwt_wrong")
    code, told, _ = leeward("vm", "list", "--json")
    assert (code, told["error"]["code"]) == (10, "not-signed-in")


def test_a_named_configuration_is_for_this_machine(console, leeward, anna):
    config = leeward.folder / "leeward.toml"
    config.write_text(f'[daemon]\nstate = "{leeward.folder}/state"\n')
    assert leeward("vm", "list")[0] == 0
    for words in (["--config", str(config)], ["--console", "local"]):
        code, _, said = leeward(*words, "vm", "list")
        assert (code, "daemon does not run" in said) == (5, True)


def test_another_fingerprint_gets_no_password(console, leeward, monkeypatch):
    asked = []
    monkeypatch.setattr(remote.RemoteClient, "post", lambda *args: asked.append(args))
    words = ["login", console.url, "--user", "anna", "--password-file", str(leeward.password)]
    code, _, said = leeward(*words, "--fingerprint", "AB:CD" * 10)
    assert (code, "another fingerprint" in said) == (4, True)
    code, _, said = leeward(*words)
    assert (code, "--fingerprint" in said) == (2, True)
    assert asked == []
    assert not logins.logins_path().exists()


def test_another_machine_behind_the_address_is_not_believed(console, leeward, anna, tmp_path):
    """The pinned authority is another one's now: nothing is sent."""
    known = logins.Logins.load()
    other = Authority.open(tmp_path / "other").ca_pem.decode()
    known.with_login(remote.Target(console.url, "lwt_secret", other)).save()
    code, told, _ = leeward("vm", "list", "--json")
    assert (code, told["error"]["code"]) == (1, "distrusted")
    code, told, _ = leeward("logout", "--json")
    assert (code, told["told"]) == (0, False)


def test_a_wrong_password(console, leeward, anna):
    leeward("logout")
    leeward.password.write_text("not the password\n")
    words = ["--user", "anna", "--password-file", str(leeward.password), "--fingerprint", console.fingerprint]
    code, told, _ = leeward("login", console.url, *words, "--json")
    assert (code, told["error"]["code"]) == (10, "not-signed-in")
    assert logins.Logins.load().current is None
    code, _, said = leeward("login", console.url, *words[2:])
    assert (code, "--user" in said) == (2, True)


@pytest.mark.slow
def test_a_person_compares_the_fingerprint(console, leeward, anna):
    """In a real terminal: the fingerprint is shown before anything is asked, and "no" ends it."""
    leeward("logout")
    command = [sys.executable, "-m", "leeward.cli.main", "login", console.url, "--user", "anna"]
    told = in_terminal(command, [("Is it this one?", "n")])
    assert console.fingerprint in told
    assert "Password" not in told
    assert logins.Logins.load().current is None
    told = in_terminal(command, [("Is it this one?", "y"), ("Password of anna:", PASSWORD)])
    assert PASSWORD not in told
    assert "Signed in" in told
    assert logins.Logins.load().current == console.url


def dark(terminal):
    """What is typed is not shown. Before this, what was typed already is thrown away."""
    return not termios.tcgetattr(terminal)[3] & termios.ECHO


def in_terminal(command, dialogue):
    """What was shown."""
    master, slave = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200", "TERM": "dumb"}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True)
    os.close(slave)
    shown = b""
    ends = time.monotonic() + 90
    while time.monotonic() < ends:
        ready, _, _ = select.select([master], [], [], 0.1)
        if ready:
            try:
                shown += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
        if dialogue:
            prompt, reply = dialogue[0]
            if prompt.encode() in shown and dark(master) == prompt.startswith("Password"):
                dialogue.pop(0)
                os.write(master, reply.encode() + b"\n")
    process.wait(10)
    os.close(master)
    assert not dialogue, shown
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def test_a_console_that_is_not_there(leeward):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        code, told, _ = leeward("--console", f"https://127.0.0.1:{probe.getsockname()[1]}", "vm", "list", "--json")
    assert (code, told["error"]["code"]) == (5, "unavailable")


@pytest.mark.parametrize("content", ["{", "[]", '{"current": null}', '{"current": "x", "consoles": {"x": {}}}'])
def test_damaged_logins(leeward, content):
    path = logins.logins_path()
    path.parent.mkdir(parents=True)
    path.write_text(content)
    code, _, said = leeward("vm", "list")
    assert (code, "logins" in said) == (2, True)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("host", "https://host:8443"),
        ("https://host:443/", "https://host:443"),
        ("HOST:9", "https://host:9"),
        ("https://[::1]:9", "https://[::1]:9"),
        *((text, None) for text in ("http://host", "https://", "https://h/path", "https://u:p@h", "https://h:x", "")),
    ],
)
def test_addresses(text, url):
    if url:
        assert remote.console_url(text) == url
    else:
        with pytest.raises(BadInput):
            remote.console_url(text)


def test_fingerprints_are_the_consoles(tmp_path):
    authority = Authority.open(tmp_path)
    assert fingerprint_of(authority.ca_pem.decode()) == authority.fingerprint
    with pytest.raises(BadInput):
        fingerprint_of("nonsense")


# --- several consoles on one database -----------------------------------------------------------------------


class Several:
    """Stand-ins for consoles, with certificates of one authority. `heard`: by whom what."""

    def __init__(self, folder, *answers):
        self.authority = Authority.open(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.authority.server_files(["127.0.0.1"]))
        self.heard, self.sockets, self.ports = [], [], []
        for number, answer in enumerate(answers):
            listener = socket.create_server(("127.0.0.1", 0))
            self.sockets.append(listener)
            self.ports.append(listener.getsockname()[1])
            if answer is None:
                listener.close()  # nobody answers here
            else:
                work = threading.Thread(target=self._serve, args=(context, listener, number, answer), daemon=True)
                work.start()

    def _serve(self, context, listener, number, answer):
        status, body = answer
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with context.wrap_socket(near, server_side=True) as line:
                self.heard.append((number, whole_request(line).split()[0].decode()))
                if status:
                    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                    line.sendall(head.encode() + body)

    def client(self):
        url = ",".join(f"https://127.0.0.1:{port}" for port in self.ports)
        return remote.RemoteClient(remote.Target(remote.console_url(url), "t", self.authority.ca_pem.decode()))


def whole_request(line):
    said = b""
    while b"\r\n\r\n" not in said:
        said += line.recv(65536)
    head, _, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    while length and len(body) < int(length.group(1)):
        body += line.recv(65536)
    return head


WORKS = (200, b'{"works": true}')
STANDS_BY = (503, b'{"error": {"code": "standby", "message": "this console stands by", "exit_code": 5}}')
HANGS_UP = (0, b"")


@pytest.fixture
def several(tmp_path):
    made = []

    def make(*answers):
        made.append(Several(tmp_path, *answers))
        return made[-1], made[-1].client()

    yield make
    for one in made:
        for listener in one.sockets:
            listener.close()


@pytest.mark.parametrize("first", [None, STANDS_BY, HANGS_UP])
def test_the_console_that_works_is_found_and_asked_first_from_then_on(several, first):
    consoles, client = several(first, WORKS)
    assert client.get("/x") == {"works": True}
    consoles.heard.clear()
    assert client.post("/y") == {"works": True}
    assert consoles.heard == [(1, "POST")]


@pytest.mark.parametrize("first", [None, STANDS_BY])
def test_what_nobody_has_heard_is_said_to_the_next(several, first):
    _, client = several(first, WORKS)
    assert client.post("/x") == {"works": True}


def test_what_may_have_been_heard_is_not_said_to_another_one(several):
    consoles, client = several(HANGS_UP, WORKS)
    with pytest.raises(Unavailable):
        client.post("/x")
    assert consoles.heard == [(0, "POST")]


def test_where_all_stand_by_that_is_told(several):
    _, client = several(None, STANDS_BY)
    with pytest.raises(LeewardError, match="stands by") as caught:
        client.get("/x")
    assert (caught.value.code, caught.value.exit_code) == ("standby", 5)


def test_addresses_of_several():
    assert remote.console_url("a, https://b:1,a") == "https://a:8443,https://b:1"
    with pytest.raises(BadInput):
        remote.console_url("a,,b")
