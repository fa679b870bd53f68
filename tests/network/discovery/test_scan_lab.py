"""A scan from a client machine of the lab's office LAN: real libvirt daemons on TCP and TLS, a real sshd, a Windows
look-alike, a tarpit, a firewall, and two hundred and more addresses where nobody is."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.network.discovery import strangers as st

from leeward.lab import netns, site

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

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
        # What a daemon tells of QEMU it has to find out first.
        words = ["virsh", "--readonly", "-c", f"qemu+tcp://{OPEN_LIBVIRT}/system", "version"]
        assert "QEMU" in lab.client("office").run(words).stdout
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


def start(lab, *words, site_name="office"):
    """`leeward host scan` on the site's client machine."""
    inside = ["ip", "netns", "exec", lab.places.client_netns(site_name)]
    return subprocess.Popen(
        [*inside, sys.executable, "-m", "leeward.cli.main", "host", "scan", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def scan(lab, *words, **more):
    process = start(lab, *words, **more)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def scan_json(lab, *words, **more):
    """(the view, findings by address)"""
    view = json.loads(scan(lab, *words, "--json", **more))
    return view, {finding["address"]: finding for finding in view["findings"]}


def ports(finding):
    return {port["port"]: port["speaks"] for port in finding["ports"]}


def test_the_whole_lan(lab, lan):
    view, found = scan_json(lab, LAN)
    assert (view["state"], view["addresses"], view["total"], view["done"]) == ("done", 254, 1524, 1524)
    assert set(found) == set(lan)
    assert view["alive"] == len(lan) + 2  # and the host and the client itself
    assert view["seconds"] < 12  # of which 1.5 for names that nobody knows, and three for the tarpit

    libvirt = found[OPEN_LIBVIRT]
    assert (libvirt["kind"], libvirt["supported"]) == ("kvm", True)
    assert re.fullmatch(r"QEMU/KVM \(libvirt [0-9.]+, QEMU [0-9.]+\)", libvirt["what"])
    assert libvirt["name"] == socket.gethostname()  # as the daemon tells
    assert ports(libvirt) == {16509: "libvirt", 16514: "tls"}
    assert libvirt["ports"][1]["certificate"] == "CN=kvm01.office.example"
    assert libvirt["ports"][1]["words"] == "it wants a client certificate"
    assert "close port 16509" in libvirt["next"]

    shut = found[SHUT_LIBVIRT]
    assert (shut["kind"], shut["supported"]) == ("kvm", True)
    assert ports(shut) == {22: "ssh", 16509: "libvirt", 16514: "libvirt"}
    assert [port["words"] for port in shut["ports"][1:]] == ["sign-in: sasl", "sign-in: none"]
    assert "by SSH" in shut["next"]

    assert found[HYPERV]["kind"] == "hyperv"
    assert ports(found[HYPERV]) == {5985: "winrm", 5986: "winrm", 2179: "nothing"}
    assert found[WINDOWS]["kind"] == "windows"
    assert found[SSH]["kind"] == "ssh"
    assert "OpenSSH_" in found[SSH]["what"]
    assert "trap" in found[TARPIT]["what"]
    # It drops all but one port, and yet is not taken for nobody.
    assert ports(found[FIREWALLED]) == {5985: "winrm"}


def test_the_libvirt_that_was_judged_is_what_libvirts_own_client_sees(lab, lan):
    words = ["virsh", "--readonly", "-c", f"qemu+tcp://{OPEN_LIBVIRT}/system", "version"]
    text = lab.client("office").run(words).stdout
    _, found = scan_json(lab, OPEN_LIBVIRT)
    libvirt, qemu = re.fullmatch(r".*libvirt ([0-9.]+), QEMU ([0-9.]+)\)", found[OPEN_LIBVIRT]["what"]).groups()
    assert f"Using library: libvirt {libvirt}" in text
    assert f"Running hypervisor: QEMU {qemu}" in text


def test_over_ipv6(lab, lan):
    client = lab.places.client_netns("office")
    netns.ip(client, "addr replace fd77::2/64 dev eth0 nodad")
    netns.ip(lan[SHUT_LIBVIRT], "addr replace fd77::32/64 dev eth0 nodad")
    try:
        _, found = scan_json(lab, "fd77::30-fd77::33", "--no-names")
        assert ports(found["fd77::32"]) == {22: "ssh", 16509: "libvirt", 16514: "libvirt"}
        assert list(found) == ["fd77::32"]
        link_local = link_local_of(lan[SHUT_LIBVIRT])
        _, found = scan_json(lab, f"{link_local}%eth0", "--no-names")
        assert 22 in ports(found[f"{link_local}%eth0"])
    finally:
        netns.ip(client, "addr del fd77::2/64 dev eth0")


def link_local_of(namespace):
    words = ["ip", "-n", namespace, "-6", "addr", "show", "dev", "eth0"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return re.search(r"inet6 (fe80:[0-9a-f:]+)/", text)[1]


def test_the_table(lab, lan):
    text = " ".join(scan(lab, f"{OPEN_LIBVIRT}-35", "--no-names").split())
    assert "5 addresses scanned" in text
    assert "5 with an open port, 5 alive" in text
    assert "QEMU/KVM (libvirt" in text
    assert "anyone on this network rules its VMs" in text


def test_a_nearly_empty_class_c_takes_a_few_seconds(lab):
    view, _ = scan_json(lab, "10.78.0.0/24", site_name="recovery")
    assert (view["done"], view["alive"]) == (1524, 2)
    assert view["seconds"] < 8


@pytest.mark.parametrize("arp_ms", [50, 1000])
def test_nobodys_addresses_cost_one_wait_each(lab, arp_ms):
    """As the lab's hasty clients ask by ARP, and as other machines do, which give up after three seconds."""
    client = lab.places.client_netns("office")
    netns.set_sysctl(client, net__ipv4__neigh__eth0__retrans_time_ms=str(arp_ms))
    try:
        view, _ = scan_json(lab, "10.77.0.180-240", "--no-names")
    finally:
        site.quicken_neighbours(client)
    assert (view["done"], view["alive"]) == (366, 0)
    assert view["seconds"] < 3  # six doors each would take seven


def test_what_lies_behind_a_router_or_nowhere(lab):
    view, _ = scan_json(lab, "10.78.0.1-2,203.0.113.5", "--no-names")
    assert view["alive"] == 2
    assert view["seconds"] < 6


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_scan_of_the_void_is_cancelled_within_a_second(lab, words):
    # Behind the router, which is longer in giving up than the client itself.
    process = start(lab, "10.78.0.100-250", "--timeout", "10s", *words)
    deadline = time.monotonic() + 30
    while " 02 " not in Path(f"/proc/{process.pid}/net/tcp").read_text():  # a connection that waits for its answer
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    if not words:
        assert "Interrupted after 0 of 906 connections (151 addresses)" in out
        return
    view = json.loads(out)
    assert view["state"] == "cancelled"
    assert view["seconds"] < 2.2  # the scan's own time: the process needs some before and after it
