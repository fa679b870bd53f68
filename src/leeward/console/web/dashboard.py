"""Puts the dashboard's pages onto the console's app."""

from __future__ import annotations

from fastapi import FastAPI

from leeward.console.access import unguarded
from leeward.console.agents import Agents
from leeward.console.alerts.center import AlertCenter
from leeward.console.checks import VaultOpener
from leeward.console.host_removal import HostRemoval
from leeward.console.identity import Identity
from leeward.console.integration import Integration
from leeward.console.plans import Plans
from leeward.console.service import Service
from leeward.console.vault_care import VaultCare
from leeward.console.vault_place import VaultPlaces
from leeward.console.web import (
    alert_pages,
    alert_settings,
    deed_pages,
    door_pages,
    enrol_pages,
    evidence_pages,
    home_pages,
    host_pages,
    integrate_pages,
    move_pages,
    people_pages,
    place_pages,
    plan_drill_pages,
    plan_edit_pages,
    plan_pages,
    recovery_pages,
    run_pages,
    scan_pages,
    vault_pages,
    vm_pages,
)
from leeward.console.web.assets import Assets
from leeward.console.web.attention import health, matters
from leeward.console.web.errors import install_pages
from leeward.console.web.painter import Painter
from leeward.console.web.parts import Parts
from leeward.console.web.points import PointBook
from leeward.console.web.replicated import replicated
from leeward.console.web.rows import all_rows
from leeward.console.web.vault_door import VaultDoor
from leeward.console.web.watch import Watch, ages, by_id
from leeward.network.discovery.scans import Scans
from leeward.ports.recovery_provider import OwnMachine
from leeward.state.database import Database

# What most pages make of a picture: with thousands of VMs nobody is to wait for it.
PREPARED = (by_id, ages, all_rows, replicated, health, matters)


def add_dashboard(
    app: FastAPI,
    service: Service,
    plans: Plans,
    identity: Identity,
    database: Database,
    vault: VaultOpener,
    door: VaultDoor,
    alerts: AlertCenter,
    care: VaultCare,
    agents: Agents,
    scans: Scans,
    machine: OwnMachine,
    removal: HostRemoval,
    places: VaultPlaces,
) -> Watch:
    """app: of `build_api`. Start the watch that is returned, and stop it before the database is closed."""
    assets = Assets()
    painter = Painter(assets)
    watch = Watch(service, database, door, limits=lambda: alerts.settings.rules().limits, prepared=PREPARED)
    integration = Integration(database, agents, scans)
    points = PointBook(vault)
    parts = Parts(
        service,
        plans,
        identity,
        database,
        points,
        door,
        watch,
        painter,
        alerts,
        care,
        agents,
        integration,
        machine,
        removal,
        places,
    )
    painter.tell("alerts_open", parts.open_alerts)
    install_pages(app, painter)
    app.include_router(assets.router())
    for pages in (
        door_pages,
        place_pages,
        home_pages,
        integrate_pages,
        scan_pages,
        enrol_pages,
        host_pages,
        recovery_pages,
        vm_pages,
        evidence_pages,
        move_pages,
        deed_pages,
        run_pages,
        plan_drill_pages,
        plan_edit_pages,
        plan_pages,
        vault_pages,
        people_pages,
        alert_pages,
        alert_settings,
    ):
        app.include_router(pages.router(parts))
    if open_doors := unguarded(app):
        raise RuntimeError(f"nobody guards {', '.join(open_doors)}")
    return watch
