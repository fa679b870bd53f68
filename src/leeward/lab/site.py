"""One site: network namespaces, LAN and a libvirt daemon that sees only its own folders."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt

from leeward.domain.errors import LeewardError, Unavailable
from leeward.lab import kvm, netns, tools, wan
from leeward.lab.places import BRIDGE, DAEMON_STATE, SITES, Places, SitePlan

# What libvirtd and swtpm have compiled in, by the folder of the site that takes its place in the daemon's mount
# namespace.
_FOLDERS = {
    "run": "/run/libvirt",
    "lib": DAEMON_STATE,
    "etc": "/etc/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
    "swtpm-ca": "/var/lib/swtpm-localca",
    "swtpm-log": "/var/log/swtpm",
}
_CAPABILITIES = "cache/qemu/capabilities"
_DAEMON_CONFIG = """\
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_rw_perms = "0700"
log_outputs = "2:file:{log}"
"""
# QEMU runs as Debian's default user for it and is given the images that it needs, as on every common host. But no
# cgroups or namespaces are made, so that a killed daemon leaves processes and files only.
_SWTPM_USER = "tss"  # as in Debian's package
_QEMU_CONFIG = f"""\
swtpm_user = "{_SWTPM_USER}"
swtpm_group = "{_SWTPM_USER}"
remember_owner = 0
security_driver = "none"
security_default_confined = 0
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
seccomp_sandbox = 0
"""


def build_networks(places: Places) -> None:
    """LANs, clients and the link between the sites; each step is skipped or repeated without harm."""
    for plan in SITES:
        host, client = places.host_netns(plan.name), places.client_netns(plan.name)
        netns.ensure(host)
        netns.ensure(client)
        _ensure_bridge(host, plan)
        attach(host, BRIDGE, "client0", client, "eth0")
        netns.ip(
            client,
            f"addr replace {plan.client_address}/24 dev eth0",
            f"route replace default via {plan.host_address}",
        )
        quicken_neighbours(client)
    wan.build(places)


def attach(host: str, bridge: str, port: str, other: str, link: str) -> None:
    """Plug namespace `other` into a bridge of namespace `host`."""
    netns.connect_links((host, port), (other, link))
    netns.ip(host, f"link set {port} master {bridge}")


def _ensure_bridge(host: str, plan: SitePlan) -> None:
    if not netns.has_link(host, BRIDGE):
        # A fixed address: otherwise the bridge takes that of its lowest port, and changes it as ports come and go.
        octet = plan.lan.split(".")[1]
        netns.ip(host, f"link add {BRIDGE} address 52:54:00:ff:ff:{octet} type bridge")
    netns.ip(host, f"addr replace {plan.host_address}/24 dev {BRIDGE}", f"link set {BRIDGE} up")
    netns.set_sysctl(host, net__ipv4__ip_forward="1")


def quicken_neighbours(client: str) -> None:
    """Let a client ask again for a booting guest's address every 50 ms instead of every second."""
    netns.set_sysctl(client, net__ipv4__neigh__eth0__retrans_time_ms="50")


def start_daemon(places: Places, site: str) -> None:
    """Start the site's libvirtd unless it answers already; returns when it does."""
    if daemon_answers(places, site):
        return
    folder = places.site(site)
    for name, target in _FOLDERS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        # Only a place to mount on, and only in the daemon's own view; the machine's folders stay as they are.
        Path(target).mkdir(parents=True, exist_ok=True)
    _keep_in_memory(folder / "run")
    places.images(site).mkdir(exist_ok=True)
    shutil.chown(folder / "swtpm-ca", _SWTPM_USER)
    _recall_capabilities(places, site)
    (folder / "etc/libvirtd.conf").write_text(_DAEMON_CONFIG.format(log=folder / "log/libvirtd.log"))
    (folder / "etc/qemu.conf").write_text(_QEMU_CONFIG)
    targets = {folder / name: target for name, target in _FOLDERS.items()}
    if kvm.DEVICE.exists() and not kvm.usable(places.cache):
        # A KVM that is there, and that QEMU's user may not open, has libvirt look into QEMU anew at every question.
        nothing = folder / "no-kvm"
        nothing.touch()
        nothing.chmod(0)
        targets[nothing] = str(kvm.DEVICE)
    mounts = "".join(f"mount --bind '{source}' {target} && " for source, target in targets.items())
    pid_file = folder / "libvirtd.pid"
    # `ip netns exec` gives a mount namespace of its own (slave of the machine's) with a fitting /sys.
    script = f"{mounts}exec libvirtd --daemon --pid-file '{pid_file}' --config /etc/libvirt/libvirtd.conf"
    tools.run(["ip", "netns", "exec", places.host_netns(site), "sh", "-c", script], timeout_s=60)
    _wait_for_daemon(places, site)


def _keep_in_memory(folder: Path) -> None:
    """/run is a tmpfs on every host with systemd. On a disk, libvirt's fsyncs of a VM's state, several in each
    backup, would stand in the way of the guest's own. `Lab.down` lets go of it."""
    if not folder.is_mount():
        tools.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=256m", "tmpfs", folder])


def _wait_for_daemon(places: Places, site: str) -> None:
    deadline = time.monotonic() + 30
    while not daemon_answers(places, site):
        if time.monotonic() > deadline:
            log = places.site(site) / "log/libvirtd.log"
            raise Unavailable("libvirtd does not answer within 30 s", subject=site, hint=f"See {log}")
        time.sleep(0.05)


def remember_capabilities(places: Places, site: str) -> None:
    """Keep in the build cache what the daemon found out about QEMU, which takes it four seconds in each new lab.

    libvirt checks by itself whether such a file still fits the QEMU and the libvirt that are installed.
    """
    kept = places.cache / "capabilities"
    for file in (places.site(site) / _CAPABILITIES).glob("*.xml"):
        if not _same(file, kept / file.name):
            kept.mkdir(exist_ok=True)
            aside = kept / f".{file.name}.{os.getpid()}"
            shutil.copy2(file, aside)
            aside.replace(kept / file.name)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()


def _recall_capabilities(places: Places, site: str) -> None:
    folder = places.site(site) / _CAPABILITIES
    folder.mkdir(parents=True, exist_ok=True)
    for file in (places.cache / "capabilities").glob("*.xml"):
        shutil.copy2(file, folder / file.name)


def daemon_answers(places: Places, site: str) -> bool:
    try:
        with connect(places.uri(site)) as connection:
            connection.getLibVersion()
    except LeewardError:
        return False
    return True


@contextmanager
def connect(uri: str) -> Iterator[libvirt.virConnect]:
    """A connection for one task. Raises Unavailable when the daemon cannot be reached."""
    libvirt.registerErrorHandler(lambda *_: None, None)  # else libvirt prints to stderr what it also raises
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise Unavailable(f"libvirt cannot be reached: {error}", subject=uri, hint="Is the lab up?") from error
    try:
        yield connection
    finally:
        connection.close()
