"""Hosts of this machine that were added by clicks: kept in the state folder, beside those of leeward.toml.

The configuration file is its operator's: nobody but him writes it, and under systemd we cannot. What is said there
goes first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from leeward.agent.config import HostConfig
from leeward.domain.errors import BadInput, LeewardError

_FILE = "hosts.json"


def added_hosts(state: Path) -> tuple[HostConfig, ...]:
    """Raises BadInput when the file cannot be read: to go on without these hosts would look as if they were gone."""
    path = state / _FILE
    try:
        rows = json.loads(path.read_text())
        return tuple(_host(row) for row in rows)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"the list of added hosts cannot be read: {error}", subject=str(path)) from None


def _host(row: dict[str, str]) -> HostConfig:
    storage = Path(row["storage"]) if row["storage"] else None
    return HostConfig(row["name"], row["site"], row["uri"], storage, row["network"])


def all_hosts(configured: Sequence[HostConfig], state: Path) -> tuple[HostConfig, ...]:
    """With the added ones, except where the configuration has one of that name or that libvirt. Raises BadInput."""
    found = list(configured)
    for host in added_hosts(state):
        if all(other.name != host.name and other.uri != host.uri for other in found):
            found.append(host)
    return tuple(found)


def with_host(added: Sequence[HostConfig], host: HostConfig) -> tuple[HostConfig, ...]:
    """One libvirt is one host: an earlier row of this name or this libvirt goes. Pure."""
    return (*(one for one in added if one.name != host.name and one.uri != host.uri), host)


def without_host(added: Sequence[HostConfig], name: str) -> tuple[HostConfig, ...]:
    """Pure."""
    return tuple(one for one in added if one.name != name)


def keep_added(state: Path, hosts: Sequence[HostConfig]) -> None:
    """Durable when it returns. Raises LeewardError."""
    from leeward.recovery.durable import save_json  # slow to load, and every command reads the list

    rows = [asdict(host) | {"storage": str(host.storage or "")} for host in hosts]
    try:
        save_json(state / _FILE, rows)
    except OSError as error:
        raise LeewardError(
            f"the list of added hosts cannot be written: {error.strerror or error}", subject=str(state / _FILE)
        ) from error
