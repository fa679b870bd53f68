"""An agent is put onto a host over SSH: a real sshd, a real enrolment. The host is this machine as a namespace of its
own sees it, with its own folders where a host keeps its things, and stand-ins for what would fetch packages."""

import html
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.console.web.browser import ARTIFACTS, Visitor, axe_source, chromium
from tests.console.web.stand import Served, Stand
from tests.loopback import free_port

import leeward
from leeward.cli.config import read_settings
from leeward.domain.errors import Refused
from leeward.network.ssh import Remote, host_keys

pytestmark = [pytest.mark.lab, pytest.mark.timeout(170)]

WAY = "/services/recovery"
PASSWORD = "correct horse battery"
PASSPHRASE = "the passphrase of the vault"
SEEN = ("/opt", "/etc/leeward", "/etc/systemd/system", "/etc/libvirt", "/var/lib/leeward")

# Installing makes a `leeward` of ours that enrols for real; only opening the vault, which is not there, is left out.
MAKE = """#!/bin/sh
echo "make $*" >> {log}
mkdir -p /opt/leeward/.venv/bin
cat > /opt/leeward/.venv/bin/leeward <<'END'
#!/bin/sh
echo "leeward $*" >> {log}
case "$1" in vault) cat >> {log}; exit 0;; esac
PYTHONPATH={src} exec {python} -m leeward.cli.main "$@"
END
chmod +x /opt/leeward/.venv/bin/leeward
echo "everything is installed"
"""
STANDIN = '#!/bin/sh\necho "$(basename $0) $*" >> {log}\n'


class Machine:
    def __init__(self, folder):
        self.folder, self.log, self.port = folder, folder / "log", free_port()
        self.programs, self.seen = folder / "programs", folder / "seen"
        self.programs.mkdir()
        for path in SEEN:
            (self.seen / path.strip("/")).mkdir(parents=True)
        source = Path(leeward.__file__).parents[1]
        self.program("make", MAKE.format(log=self.log, src=source, python=sys.executable))
        for name in ("apt-get", "systemctl"):
            self.program(name, STANDIN.format(log=self.log))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
        self.process = None
        self.start()

    def program(self, name, text):
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def start(self):
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True, check=True
        ).stdout.strip()
        shadow = re.sub(r"^root:[^:]*:", lambda _: f"root:{hashed}:", Path("/etc/shadow").read_text(), flags=re.M)
        (self.folder / "shadow").write_text(shadow)
        force = self.folder / "force"
        force.write_text(f'#!/bin/sh\nPATH={self.programs}:$PATH exec sh -c "$SSH_ORIGINAL_COMMAND"\n')
        force.chmod(0o755)
        (self.folder / "config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.folder / 'key'}\nPidFile none\nUsePAM no\n"
            f"PermitRootLogin yes\nPasswordAuthentication yes\nPubkeyAuthentication no\nForceCommand {force}\n"
        )
        lines = ["set -e", "mount -t tmpfs tmpfs /run", "mkdir -m 755 /run/sshd"]
        lines.append(f"mount --bind {self.folder / 'shadow'} /etc/shadow")
        for path in SEEN:
            if Path(path).is_dir():
                lines.append(f"mount --bind {self.seen / path.strip('/')} {path}")
        lines.append(f"exec /usr/sbin/sshd -D -e -f {self.folder / 'config'}")
        self.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", "\n".join(lines)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "sshd.log").open("ab"),
        )

    def at(self, path):
        return self.seen / path.strip("/")

    def called(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def machine(tmp_path):
    if shutil.which("sshd", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("no sshd here")
    made = []
    for path in SEEN:
        if not Path(path).exists():
            Path(path).mkdir(parents=True)
            made.append(path)
    there = Machine(tmp_path)
    yield there
    there.stop()
    for path in made:
        os.rmdir(path)


@pytest.fixture
def stand(tmp_path):
    (tmp_path / "console").mkdir()
    made = Stand(tmp_path / "console", agents_port=free_port(), empty=True)
    made.admin = made.as_role("admin", "anna")
    made.admin.post(f"{WAY}/scan/add", {"host": "127.0.0.1"})
    yield made
    made.close()


def shown_keys(stand, machine):
    ends = time.monotonic() + 15
    while True:
        answer = stand.admin.post(f"{WAY}/host/127.0.0.1/key", {"user": "root", "port": str(machine.port)})
        if answer.status_code == 200:
            return re.findall(r'name="known" value="([^"]+)"', html.unescape(answer.text))
        assert time.monotonic() < ends, answer.text
        time.sleep(0.1)


def form_of(machine, keys, **more):
    form = {
        "user": "root",
        "port": str(machine.port),
        "known": keys,
        "sure": "1",
        "password": PASSWORD,
        "passphrase": PASSPHRASE,
        "name": "kvm01",
        "site": "recovery",
    }
    return {**form, **more}


def test_an_agent_is_installed_and_no_secret_stays(stand, machine, tmp_path):
    keys = shown_keys(stand, machine)
    told = subprocess.run(
        ["ssh-keygen", "-lf", machine.folder / "key.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert [key in told for key in keys] == [True]
    page = f"{WAY}/host/127.0.0.1"
    answer = stand.admin.post(f"{page}/install", form_of(machine, keys))
    assert answer.headers.get("hx-redirect") == page, html.unescape(answer.text)
    ends = time.monotonic() + 90
    while "The agent is being installed" in (text := stand.admin.get(page).text):
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert "The agent is installed" in text, html.unescape(re.sub(r"<[^>]+>", " ", text))
    assert machine.called() == [
        "apt-get update -q",
        "apt-get install -y -q make",
        "make -C /opt/leeward setup",
        "leeward agent enrol -",
        "leeward agent hook",
        "systemctl daemon-reload",
        "systemctl enable leeward-agent.service",
        "systemctl restart leeward-agent.service",
        "leeward vault unlock --passphrase-file /dev/stdin",
        PASSPHRASE,
    ]
    assert (machine.at("/opt/leeward") / "src" / "leeward" / "cli" / "main.py").exists()
    assert not list(machine.at("/opt/leeward").rglob("__pycache__"))
    settings = read_settings(machine.at("/etc/leeward") / "leeward.toml")
    assert [(host.name, host.site) for host in settings.host] == [("kvm01", "recovery")]
    assert [view.name for view in stand.agents.views()] == ["kvm01"]
    assert "Enrolled, has not told of its VMs yet" in stand.admin.get(page).text
    for secret in (PASSWORD, PASSPHRASE):
        assert secret not in text
        assert secret not in str(stand.audit())
        for file in stand.folder.rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    assert [event["who"] for event in stand.service.events(20) if event["what"] == "agent token made"] == ["anna"]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"password": "wrong"}, 409, "The host does not let this user in"),
        ({"password": ""}, 409, "The host does not let this user in"),
        ({"known": "SHA256:other"}, 409, "The host has shown another key than before"),
        ({"sure": ""}, 422, "Compare the key first."),
        ({"name": ""}, 422, "Fill this in."),
        ({"name": "a b"}, 422, "A name has letters"),
        ({"site": "moon"}, 422, "Choose a site."),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_has_happened(stand, machine, changes, status, words):
    keys = shown_keys(stand, machine)
    answer = stand.admin.post(f"{WAY}/host/127.0.0.1/install", form_of(machine, keys, **changes))
    text = html.unescape(answer.text)
    assert (answer.status_code, words in text) == (status, True), text
    for secret in (PASSWORD, PASSPHRASE):
        assert secret not in text
    assert machine.called() == []
    assert stand.agents.views() == []


def test_a_step_that_fails_is_told_with_what_the_host_said(stand, machine):
    machine.program("make", "#!/bin/sh\necho 'no room left on this host'\nexit 3\n")
    keys = shown_keys(stand, machine)
    page = f"{WAY}/host/127.0.0.1"
    stand.admin.post(f"{page}/install", form_of(machine, keys))
    stand.world.wait(lambda: "could not be installed" in stand.admin.get(page).text)
    assert "a command on the host failed: no room left on this host" in stand.admin.get(page).text
    assert stand.agents.views() == []
    machine.program(
        "make", MAKE.format(log=machine.log, src=Path(leeward.__file__).parents[1], python=sys.executable)
    )
    stand.admin.post(f"{page}/install", form_of(machine, keys))
    stand.world.wait(lambda: "The agent is installed" in stand.admin.get(page).text, 60)


def test_what_fails_behind_the_enrolment_is_mended_and_installed_again(stand, machine):
    page = f"{WAY}/host/127.0.0.1"
    machine.program("systemctl", f"#!/bin/sh\necho \"systemctl $*\" >> {machine.log}\necho 'no such unit'\nexit 5\n")
    keys = shown_keys(stand, machine)
    stand.admin.post(f"{page}/install", form_of(machine, keys))
    stand.world.wait(lambda: "could not be installed" in stand.admin.get(page).text, 60)
    text = stand.admin.get(page).text
    assert "a command on the host failed: no such unit" in text
    assert "Enrolled, has not told of its VMs yet" in text
    assert f'action="{page}/key"' in text
    assert [view.name for view in stand.agents.views()] == ["kvm01"]
    answer = stand.admin.post(f"{page}/install", form_of(machine, keys, name="dr1"))
    assert (answer.status_code, "An agent of another name is on this host" in answer.text) == (422, True)
    machine.program("systemctl", STANDIN.format(log=machine.log))
    machine.log.unlink()
    stand.admin.post(f"{page}/install", form_of(machine, keys, site="source"))
    stand.world.wait(lambda: "The agent is installed" in stand.admin.get(page).text, 60)
    assert machine.called()[-4:-1] == [
        "systemctl enable leeward-agent.service",
        "systemctl restart leeward-agent.service",
        "leeward vault unlock --passphrase-file /dev/stdin",
    ]
    settings = read_settings(machine.at("/etc/leeward") / "leeward.toml")
    assert [(host.name, host.site) for host in settings.host] == [("kvm01", "source")]
    assert [view.name for view in stand.agents.views() if not view.revoked] == ["kvm01"]


def test_a_host_that_shows_another_key_is_not_signed_in_to(stand, machine):
    shown_keys(stand, machine)
    keys = host_keys("127.0.0.1", machine.port)
    machine.stop()
    for file in ("key", "key.pub"):
        (machine.folder / file).unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", machine.folder / "key"], check=True)
    machine.start()
    shown_keys(stand, machine)
    with pytest.raises(Refused, match="another key"):
        Remote("127.0.0.1", machine.port, "root", PASSWORD, keys).run("true")


def test_how_it_looks_while_it_is_done(stand, machine):
    machine.program(
        "make", MAKE.format(log=machine.log, src=Path(leeward.__file__).parents[1], python=sys.executable)
    )
    stand.identity.reception._tries.take = lambda *keys: 0
    server, axe = Served(stand), axe_source()
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    shown_keys(stand, machine)
    hold = machine.folder / "hold"
    hold.touch()
    machine.program("apt-get", f"#!/bin/sh\necho 'Reading package lists'\nwhile [ -e {hold} ]; do sleep 0.1; done\n")
    try:
        with chromium() as browser:
            anna = Visitor(browser, server.url).sign_in("anna")
            page = anna.go(f"{WAY}/host/127.0.0.1")
            page.fill("#f-port", str(machine.port))
            page.click("text=Ask for the host's key")
            page.wait_for_selector(".keys")
            page.fill("#f-password", PASSWORD)
            page.fill("#f-name", "kvm01")
            posted = []
            page.on("request", lambda asked: posted.append(asked.url) if asked.method == "POST" else None)
            page.click("text=Install the agent")
            assert page.input_value("#f-password") == PASSWORD
            page.screenshot(path=ARTIFACTS / "integrate-ssh-key.png", full_page=True, caret="initial")
            assert page.input_value("#f-name") == "kvm01"
            page.check('[name="sure"]')
            page.click("text=Install the agent")
            page.wait_for_selector("#push .step.running >> text=Reading package lists")
            # Once, although clicked twice: the browser itself has asked for the tick first.
            assert posted == [f"{server.url}{WAY}/host/127.0.0.1/install"]
            page.screenshot(path=ARTIFACTS / "integrate-ssh-running.png", full_page=True)
            assert anna.grave(axe) == []
            hold.unlink()
            page.wait_for_selector("#push >> text=The agent is installed", timeout=60_000)
            page.screenshot(path=ARTIFACTS / "integrate-ssh-done.png", full_page=True)
            assert "\n".join(anna.troubles) == ""
            anna.close()
    finally:
        hold.unlink(missing_ok=True)
        server.close()
