"""What the pages ask and what they are made with."""

from __future__ import annotations

from dataclasses import dataclass

from leeward.console.agents import Agents
from leeward.console.alerts.center import AlertCenter
from leeward.console.host_removal import HostRemoval
from leeward.console.identity import Identity
from leeward.console.integration import Integration
from leeward.console.plans import Plans
from leeward.console.service import Service
from leeward.console.vault_care import VaultCare
from leeward.console.vault_place import VaultPlaces
from leeward.console.web.painter import Painter
from leeward.console.web.points import PointBook
from leeward.console.web.vault_door import VaultDoor
from leeward.console.web.watch import Watch
from leeward.ports.recovery_provider import OwnMachine
from leeward.state.database import Database


@dataclass(frozen=True, slots=True)
class Parts:
    """points: what the vault holds of a VM; door: how the vault comes about; places: where it is; machine: the
    console's own."""

    service: Service
    plans: Plans
    identity: Identity
    database: Database
    points: PointBook
    door: VaultDoor
    watch: Watch
    painter: Painter
    alerts: AlertCenter
    care: VaultCare
    agents: Agents
    integration: Integration
    machine: OwnMachine
    removal: HostRemoval
    places: VaultPlaces

    def open_alerts(self) -> int:
        return sum(self.alerts.book.open_counts().values())
