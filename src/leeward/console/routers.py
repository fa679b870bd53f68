"""All that the console's API offers besides protecting and moving VMs, put together for daemon and tests alike."""

from __future__ import annotations

from fastapi import APIRouter

from leeward.console import alert_settings_api, alerts_api, consoles_api, discovery_api, hosts_api, plans_api
from leeward.console.agents import Agents
from leeward.console.agents_api import agents_router
from leeward.console.alerts.center import AlertCenter
from leeward.console.consoles import Consoles
from leeward.console.host_removal import HostRemoval
from leeward.console.plans import Plans
from leeward.network.discovery.scans import Scans


def all_routers(
    agents: Agents,
    plans: Plans,
    consoles: Consoles,
    alerts: AlertCenter,
    removal: HostRemoval,
    scans: Scans | None = None,
) -> tuple[APIRouter, ...]:
    """scans: those that the dashboard has as well; None: its own."""
    return (
        agents_router(agents),
        hosts_api.build_router(removal),
        discovery_api.build_router(scans or Scans()),
        plans_api.build_router(plans),
        consoles_api.build_router(consoles),
        alert_settings_api.build_router(alerts),
        alerts_api.build_router(alerts),
    )
