"""leeward.toml: where it is looked for, what it may say."""

from __future__ import annotations

import os
import platform
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from leeward.agent.added_hosts import all_hosts
from leeward.agent.config import AgentConfig, HostConfig
from leeward.domain.errors import BadInput, NotFound
from leeward.wire.faults import words_of

if TYPE_CHECKING:  # what it needs is more than light commands load
    from leeward.state.vault_place import PlaceFile

SYSTEM_FILE = Path("/etc/leeward/leeward.toml")
DEFAULT_LAB = "/var/lib/leeward-lab"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VaultSection(_Section):
    """url: file:///folder, s3://bucket/prefix or azure://container/prefix; "" when the file does not say: then it is
    what was chosen on this machine, or told by its console."""

    url: str = ""


class HostSection(_Section):
    """site: source (its VMs are protected) or recovery (copies run there). storage: folder for copies' overlays.
    network: bridge:NAME or network:NAME for cards of recovered VMs that would else be isolated."""

    name: str = Field(min_length=1)
    site: Literal["source", "recovery"] = "source"
    uri: str = "qemu:///system"
    storage: Path | None = None
    network: str = Field(default="", pattern="^((bridge|network):[^:]+)?$")


class DaemonSection(_Section):
    """state: folder of the daemon. autostart: the command line starts the daemon when none runs.

    spool_limit: bytes a VM may keep locally while the vault is away. adopt: take up VMs that the vault knows and this
    console does not (a portal).
    """

    state: Path = Path("/var/lib/leeward")
    autostart: bool = False
    adopt: bool = False
    spool_limit: int = Field(default=2 << 30, ge=0)


class ConsoleSection(_Section):
    """listen: where HTTPS is answered, like "127.0.0.1:8443"; "" for not at all. cert, key: files, else the console
    issues its own. names: other host names and addresses under which it is reached, for its own certificate.
    database: SQLAlchemy's URL; "" for SQLite in the state folder. name: of this console among those on one database,
    "" for this machine's. address: https://host:port under which people reach it; "" for this machine's name.
    agents_listen: address:port for agents on other machines, "" for none. agents_address: https://host:port under
    which they reach it; "" for this machine's name.
    """

    listen: str = ""
    cert: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()
    database: str = ""
    name: str = Field(default="", max_length=64)
    address: str = ""
    agents_listen: str = ""
    agents_address: str = ""


class AgentSection(_Section):
    """console: an address that counts more than those that the agent was told, https://host:port; several, separated
    by commas, where several consoles share a database."""

    console: str = ""


class Settings(_Section):
    """The whole file. path: where it came from, None for the built-in defaults."""

    vault: VaultSection = VaultSection()
    host: tuple[HostSection, ...] = ()
    daemon: DaemonSection = DaemonSection()
    console: ConsoleSection = ConsoleSection()
    agent_section: AgentSection = Field(default=AgentSection(), validation_alias="agent")
    path: Path | None = None

    @property
    def socket(self) -> Path:
        return self.daemon.state / "leeward.sock"

    @property
    def database(self) -> str:
        return self.console.database or f"sqlite:///{self.daemon.state / 'leeward.db'}"

    @property
    def console_name(self) -> str:
        return self.console.name or platform.node()[:64] or "console"

    @property
    def place(self) -> PlaceFile:
        """Of the vault."""
        from leeward.state.vault_place import PlaceFile

        return PlaceFile(self.daemon.state, self.vault.url or None)

    @property
    def hosts(self) -> tuple[HostConfig, ...]:
        """Those of this machine, also the ones that were added by clicks. Raises BadInput."""
        named = [HostConfig(host.name, host.site, host.uri, host.storage, host.network) for host in self.host]
        return all_hosts(named, self.daemon.state)

    def agent(self) -> AgentConfig:
        return AgentConfig(platform.node(), self.hosts, self.vault.url, self.daemon.state, self.daemon.spool_limit)


def find_settings(explicit: Path | None = None) -> Settings:
    """--config, $LEEWARD_CONFIG, ./leeward.toml, /etc/leeward, a lab that is up, built-in defaults: the first found.

    Raises NotFound for a named file that is not there, BadInput for one that cannot be used.
    """
    named = explicit or (Path(os.environ["LEEWARD_CONFIG"]) if os.environ.get("LEEWARD_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise NotFound("the configuration file does not exist", subject=str(named))
        return read_settings(named)
    lab = Path(os.environ.get("LEEWARD_LAB") or DEFAULT_LAB) / "leeward.toml"
    for path in (Path("leeward.toml"), SYSTEM_FILE, lab):
        if path.is_file():
            return read_settings(path)
    return Settings(host=(HostSection(name=platform.node()),))


def read_settings(path: Path) -> Settings:
    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the configuration cannot be read: {error}", subject=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"this is not TOML: {error}", subject=str(path)) from None
    raw.pop("path", None)
    try:
        settings = Settings.model_validate({**raw, "path": path.absolute()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        given = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
        raise BadInput(f"{where}{given}: {words_of(first)}", subject=str(path)) from None
    names = [host.name for host in settings.host]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two hosts have the name {name!r}", subject=str(path))
    if (settings.console.cert is None) != (settings.console.key is None):
        raise BadInput("console: cert and key belong together", subject=str(path))
    for host in settings.host:
        if host.site == "recovery" and host.storage is None:
            raise BadInput(f"host {host.name!r}: a recovery host needs a storage folder", subject=str(path))
    return settings
