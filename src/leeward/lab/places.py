"""Folders, names and addresses of one lab. Everything that a lab makes can be found from its folder alone."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from leeward.domain.errors import BadInput, NotFound

DEFAULT_ROOT = Path("/var/lib/leeward-lab")
ROOT_VARIABLE = "LEEWARD_LAB"
CACHE_VARIABLE = "LEEWARD_LAB_CACHE"

# A Unix socket's path ends at 107 bytes; the longest that is put below the lab folder by anyone is a scratch or
# export socket of about 60.
_LONGEST_ROOT = 45


@dataclass(frozen=True, slots=True)
class SitePlan:
    """One site: its LAN is `lan`.0/24 with the host at .1 and the client at .2; `wan` is its end of the link."""

    name: str
    lan: str
    wan: str

    @property
    def host_address(self) -> str:
        return f"{self.lan}.1"

    @property
    def client_address(self) -> str:
        return f"{self.lan}.2"


OFFICE = SitePlan("office", lan="10.77.0", wan="10.99.0.1")
RECOVERY = SitePlan("recovery", lan="10.78.0", wan="10.99.0.2")
SITES = (OFFICE, RECOVERY)
# Places on the wide-area link that have no LAN: where the vault's server and the console may stand.
CLOUD_ADDRESS = "10.99.0.3"
HQ_ADDRESS = "10.99.0.4"
WAN = {OFFICE.name: OFFICE.wan, RECOVERY.name: RECOVERY.wan, "cloud": CLOUD_ADDRESS, "hq": HQ_ADDRESS}
BRIDGE = "br0"
DAEMON_STATE = "/var/lib/libvirt"  # compiled into libvirtd


def site_plan(name: str) -> SitePlan:
    for plan in SITES:
        if plan.name == name:
            return plan
    raise NotFound("the lab has no such site", subject=name, hint="It has: office, recovery")


@dataclass(frozen=True, slots=True)
class Places:
    """Paths below `root`, and names of network namespaces, which are alike for one root and unlike for two."""

    root: Path
    cache: Path

    @classmethod
    def choose(cls, root: Path | str | None = None) -> Places:
        """The lab at `root`, else at $LEEWARD_LAB, else the default; the cache at $LEEWARD_LAB_CACHE or inside."""
        chosen = Path(root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)
        if not chosen.is_absolute() or len(str(chosen)) > _LONGEST_ROOT:
            raise BadInput(
                "the lab folder must be an absolute path of at most 45 characters",
                subject=str(chosen),
                hint=f"Set {ROOT_VARIABLE} to a short path: sockets lie below it",
            )
        cache = Path(os.environ.get(CACHE_VARIABLE) or chosen / "cache")
        return cls(chosen, cache)

    def netns(self, role: str) -> str:
        """Name of a network namespace, e.g. lw-office, or lw-office-3fa9c1 for a lab outside the default folder."""
        if self.root == DEFAULT_ROOT:
            return f"lw-{role}"
        return f"lw-{role}-{hashlib.sha256(bytes(self.root)).hexdigest()[:6]}"

    def host_netns(self, site: str) -> str:
        return self.netns(site)

    def client_netns(self, site: str) -> str:
        return self.netns("client" if site == OFFICE.name else "rclient")

    def site(self, site: str) -> Path:
        return self.root / site

    def images(self, site: str) -> Path:
        return self.root / site / "images"

    def daemon_state(self, site: str) -> Path:
        """What the site's libvirtd sees at DAEMON_STATE."""
        return self.root / site / "lib"

    def uri(self, site: str) -> str:
        return f"qemu+unix:///system?socket={self.root / site / 'run' / 'libvirt-sock'}"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def probes(self) -> Path:
        """Folder with one empty file for each temporary namespace, written before it is made."""
        return self.root / "probes"

    @property
    def vault(self) -> Path:
        return self.root / "vault"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def config(self) -> Path:
        return self.root / "leeward.toml"
