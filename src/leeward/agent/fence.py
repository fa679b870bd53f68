"""The boot fence: libvirt itself refuses to start a VM that stands down, also before the agent runs.

A host that boots starts its VMs by itself, and a person may start one at any time; the guard stops such a VM, but
only afterwards. So the agent keeps a plain list of the VMs that stand down on each of its hosts, and a hook of
libvirt's looks into it before every start. The hook is a shell script without anything of ours around it: it works
while the agent is down, and a list that is not there or cannot be read keeps nobody off.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from urllib.parse import quote as file_name
from urllib.parse import unquote

from leeward.domain.errors import LeewardError
from leeward.logs import log
from leeward.recovery.durable import write_text

HOOKS = Path("/etc/libvirt/hooks")
_MARK = "# Leeward's boot fence"
_ADDRESSES = "hosts.json"

# Called by libvirt as: NAME OPERATION SUB-OPERATION EXTRA, the VM's definition on standard input. What it says on
# standard error is in the error that the starter gets. "prepare" comes before a start, a restore and an incoming
# migration; a running VM that libvirtd finds again ("reconnect"), a migration away and a stop do not concern it.
_SCRIPT = """\
#!/bin/sh
{mark}: a VM that runs at another site is not started on this host.
# Written by `leeward agent hook`; `leeward agent hook --remove` takes it away.
[ "$2" = prepare ] || exit 0
list={list}
[ -r "$list" ] || exit 0
id=$(sed -n '/<uuid>/ {{ s/.*<uuid>\\([0-9A-Fa-f-]*\\)<.*/\\1/p; q; }}' | tr A-F a-f)
[ -n "$id" ] || exit 0
while read -r held reason; do
    if [ "$held" = "$id" ]; then
        echo "Leeward keeps $1 off on this host: $reason." >&2
        echo "Bring it home with 'leeward failover failback $1'; see 'leeward status $1'." >&2
        exit 1
    fi
done < "$list"
exit 0
"""


class Fence:
    """The lists: one file a host in `folder`, a line a VM: its id, a space, the reason. What they say from before
    holds until `keep` says otherwise."""

    def __init__(self, folder: Path, hosts: Iterable[str] = ()) -> None:
        self._folder = folder
        known = {unquote(path.stem) for path in folder.glob("*.list")}
        self._written: dict[str, str | None] = dict.fromkeys({*hosts, *known})
        self._renamed: dict[str, str] = {}

    def know(self, hosts: Mapping[str, str]) -> dict[str, str]:
        """These are the agent's hosts from now on: name → address of its libvirt. → what `former` says of them. The
        hook of a host that was renamed looks into the old name's list, which says what the new one's does."""
        self._renamed = self.former(hosts)
        self._written = dict.fromkeys(hosts) | self._written
        known = {**self._addresses(), **hosts}
        if known != self._addresses():
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_text(self._folder / _ADDRESSES, json.dumps(known))
            except OSError as error:  # only a change of name would go unseen
                log.warning("the addresses of hosts cannot be written down", error=str(error))
        return dict(self._renamed)

    def former(self, hosts: Mapping[str, str]) -> dict[str, str]:
        """Name that a host of these had before → its name now."""
        return renamed(self._addresses(), hosts)

    def _addresses(self) -> dict[str, str]:
        """Of all hosts that there have been."""
        try:
            found = json.loads((self._folder / _ADDRESSES).read_text())
            return {str(name): str(address) for name, address in found.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def path(self, host: str) -> Path:
        return self._folder / f"{file_name(host, safe='')}.list"

    def keep(self, held: Iterable[tuple[str, str, str]]) -> None:
        """held: (host, VM id, reason) of all that stand down. Durable when it returns. Raises LeewardError."""
        lists: dict[str, list[str]] = {host: [] for host in self._written}
        for host, vm_id, reason in held:
            lists.setdefault(host, []).append(f"{vm_id.lower()} {' '.join(reason.split())}\n")
        for old, new in self._renamed.items():
            lists[old] = [*{*lists.get(old, []), *lists.get(new, [])}]
        for host, lines in lists.items():
            text = "".join(sorted(lines))
            if self._written.get(host) is None:
                self._written[host] = self._read(host)
            if self._written[host] != text:
                try:
                    self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                    write_text(self.path(host), text)
                except OSError as error:
                    raise LeewardError(
                        f"the list of VMs that stay off cannot be written: {error}", subject=str(self.path(host))
                    ) from error
                self._written[host] = text

    def _read(self, host: str) -> str | None:
        try:
            return self.path(host).read_text()
        except FileNotFoundError:
            return ""  # nobody has been kept off yet
        except OSError:
            return None


def renamed(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Old name → new one, of hosts that are there no more while one of another name has their libvirt. before, now:
    name → its address. Pure."""
    times = Counter(now.values())
    there = {address: name for name, address in now.items() if times[address] == 1}
    return {old: there[address] for old, address in before.items() if old not in now and address in there}


def fence_of(state: Path, hosts: Iterable[str] = ()) -> Fence:
    """The lists in an agent's state folder."""
    return Fence(state / "kept-off", hosts)


def hook_file(hooks: Path) -> Path:
    """libvirt runs everything in qemu.d (since 6.5), in order of the names, before and beside its `qemu`."""
    return hooks / "qemu.d" / "leeward"


def hook_text(listed: Path) -> str:
    return _SCRIPT.format(mark=_MARK, list=quote(str(listed)))


def install_hook(hooks: Path, listed: Path) -> bool:
    """True when something changed. Raises LeewardError when the file is not ours, or cannot be written."""
    file, text = hook_file(hooks), hook_text(listed)
    if _ours(file) and file.read_text() == text and os.access(file, os.X_OK):
        return False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = hooks / "leeward.new"  # not in qemu.d, where libvirt would run it
        temporary.write_text(text)
        temporary.chmod(0o755)
        temporary.replace(file)
    except OSError as error:
        raise LeewardError(f"the hook cannot be written: {error}", subject=str(file)) from error
    return True


def remove_hook(hooks: Path) -> bool:
    file = hook_file(hooks)
    if not _ours(file):
        return False
    try:
        file.unlink()
    except OSError as error:
        raise LeewardError(f"the hook cannot be removed: {error}", subject=str(file)) from error
    return True


def hook_state(hooks: Path, *lists: Path) -> str:
    """installed, missing, or other: one that looks into none of these lists."""
    file = hook_file(hooks)
    if not _ours(file):
        return "missing"
    return "installed" if file.read_text() in map(hook_text, lists) else "other"


def _ours(file: Path) -> bool:
    """Raises LeewardError for somebody else's file of this name."""
    if not file.exists():
        return False
    try:
        ours = _MARK in file.read_text(errors="replace")
    except OSError as error:
        raise LeewardError(f"the hook cannot be read: {error}", subject=str(file)) from error
    if not ours:
        raise LeewardError("this file is not Leeward's", subject=str(file), hint="Move it away first")
    return True
