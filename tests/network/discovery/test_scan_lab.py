"""A scan from a client machine of the lab's office LAN: real libvirt daemons on TCP and TLS, a real sshd, a Windows
look-alike, a tarpit, a firewall, and two hundred and more addresses where nobody is."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.network.discovery import strangers as st

from leeward.lab import netns, site

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

DOCS = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
LAN = "10.77.0.0/24"
OPEN_LIBVIRT, SHUT_LIBVIRT, HYPERV, WINDOWS, SSH, TARPIT, FIREWALLED = (f"10.77.0.{n}" for n in range(31, 38))


@pytest.fixture(scope="module")
def lan(lab, tmp_path_factory):
    """address → namespace of the machine that has it; all of them serve."""
    folder = tmp_path_factory.mktemp("lan")
    with contextlib.ExitStack() as stack:
        machines = {
            address: stack.enter_context(lab.probe("office", address=f"{address}/24")).namespace
            for address in (OPEN_LIBVIRT, SHUT_LIBVIRT, HYPERV, WINDOWS, SSH, TARPIT, FIREWALLED)
        }
        crowd = st.Strangers()
        stack.callback(crowd.close)
        tls = st.server_tls(st.make_certificate(folder, "hv01.office.example"))

        def serve(address, port, handle, tls=None):
            sock = netns.open_socket(machines[address])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            crowd.add(handle, sock, tls)

        serve(HYPERV, 5985, st.windows)
        serve(HYPERV, 5986, st.windows, tls)
        serve(HYPERV, 2179, st.mute)
        serve(WINDOWS, 5985, st.windows)
        for port in (22, 16509, 16514, 5985, 5986, 2179):
            serve(TARPIT, port, st.mute)
        serve(FIREWALLED, 5985, st.windows)
        rules = "table inet f {\nchain i {\ntype filter hook input priority 0;\ntcp dport != 5985 drop\n}\n}"
        subprocess.run(["ip", "netns", "exec", machines[FIREWALLED], "nft", rules], check=True)
        for address in (SSH, SHUT_LIBVIRT):
            stack.enter_context(sshd(machines[address], folder / f"ssh{address}"))
        authority = st.make_certificate(folder, "ca")
        certificate = st.make_certificate(folder, "kvm01.office.example", authority[2])
        keys = (
            f'ca_file = "{authority[0]}"\ncert_file = "{certificate[0]}"\nkey_file = "{certificate[1]}"\n'
            'crl_file = ""\nlisten_tls = 1\nlisten_tcp = 1\n'
        )
        daemons = {
            OPEN_LIBVIRT: 'auth_tcp = "none"\nauth_tls = "none"\n',
            SHUT_LIBVIRT: 'auth_tcp = "sasl"\nauth_tls = "none"\ntls_no_verify_certificate = 1\n',
        }
        for address, wishes in daemons.items():
            home = folder / f"libvirt{address}"
            stack.enter_context(libvirtd(lab, machines[address], home, keys + wishes))
        for address, port in ((OPEN_LIBVIRT, 16514), (SHUT_LIBVIRT, 16514), (SSH, 22), (SHUT_LIBVIRT, 22)):
            wait_port(machines[address], address, port)
        yield machines


@contextlib.contextmanager
def libvirtd(lab, namespace, home, config):
    """A daemon that listens on TCP and TLS, with folders of its own as the lab's have them."""
    for name in site._FOLDERS:
        (home / name).mkdir(parents=True)
    (home / "etc/libvirtd.conf").write_text(
        config + 'auth_unix_rw = "none"\nauth_unix_ro = "none"\nlog_outputs = "2:stderr"\n'
    )
    (home / "etc/qemu.conf").write_text(site._QEMU_CONFIG)
    known = lab.places.cache / "capabilities"
    if known.is_dir():  # spare the daemon the four seconds of finding out about QEMU
        shutil.copytree(known, home / site._CAPABILITIES)
    mounts = "".join(f"mount --bind '{home / name}' {target} && " for name, target in site._FOLDERS.items())
    with run_in(
        namespace,
        f"{mounts}exec libvirtd --listen --pid-file {home / 'pid'} --config /etc/libvirt/libvirtd.conf",
        home / "output",
    ):
        yield


@contextlib.contextmanager
def sshd(namespace, home):
    home.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / "key"], check=True)
    (home / "config").write_text(f"HostKey {home / 'key'}\nPidFile none\nPort 22\n")
    # sshd insists on a folder in /run, which is only made in its own view of the machine.
    prepare = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd"
    with run_in(namespace, f"{prepare} && exec /usr/sbin/sshd -D -e -f {home / 'config'}", home / "output"):
        yield


@contextlib.contextmanager
def run_in(namespace, script, output):
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
        try:
            yield
            assert process.poll() is None, output.read_text()
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_port(namespace, address, port):
    deadline = time.monotonic() + 30
    while True:
        with netns.open_socket(namespace) as sock:
            sock.settimeout(1)
            try:
                sock.connect((address, port))
                return
            except OSError:
                assert time.monotonic() < deadline, (address, port)
        time.sleep(0.1)


def command(lab, *words):
    return [
        "ip",
        "netns",
        "exec",
        lab.places.client_netns("office"),
        sys.executable,
        "-m",
        "leeward.cli.main",
        *words,
    ]


def scan(lab, *words):
    done = subprocess.run(
        command(lab, "host", "scan", *words),
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_whole_lan(lab, lan):
    begun = time.monotonic()
    view = json.loads(scan(lab, LAN, "--json").stdout)
    taken = time.monotonic() - begun
    print(json.dumps(view, indent=1), taken)
    assert taken < 15
