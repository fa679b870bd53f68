"""What scenarios are played on: one lab, with the parts apart; shared by as many as leave it as they found it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt

from leeward.cli.asking import Asker
from leeward.domain.errors import LeewardError
from leeward.lab import site, volumes, wan
from leeward.lab.guests import Guest
from leeward.lab.lab import Lab
from leeward.lab.parts import Parts
from leeward.lab.scenario.document import GuestPart, Scenario

_LOOK_S = 0.1


class Failed(LeewardError):
    """Something that a scenario expects is not so."""

    code = "scenario"


class Stage:
    """asked: "console" or "portal", whom the steps ask. cuts: the ways that are cut now, each (from, to)."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.parts = Parts(lab)
        self.asked = "console"
        self.cuts: set[tuple[str, str]] = set()
        self._up = False
        self._used = True
        self._parts_of: dict[str, GuestPart] = {}

    # --- before and after -----------------------------------------------------------------------------

    def prepare(self, scenario: Scenario) -> dict[str, Guest]:
        """The guests, running at the office, and parts that are whole: those of the last scenario, or new ones."""
        if not self._up:
            self.parts.up()
            self._up = True
        if self._used or self._parts_of != scenario.guests:
            self._renew(scenario)
        self._used = True
        return {name: guest for name, guest in self.lab.guests("office").items() if name in scenario.guests}

    def settled(self, scenario: Scenario) -> None:
        """The scenario has passed. When everything is as at its begin, the next one goes on with it."""
        with suppress(LeewardError):
            rows = {row["vm"]: row for row in self.parts.asker("console").get("/status")}
            whole = all(self.parts.runs(part) for part in ("console", "office", "recovery"))
            home = all(
                (rows[name]["phase"], rows[name]["state"], rows[name]["reason"]) == ("home", "enabled", "")
                for name in scenario.guests
            )
            empty = not self._domains("recovery") and self._domains("office") == set(scenario.guests)
            self._used = not (whole and home and empty and not self.cuts and self.asked == "console")

    def _renew(self, scenario: Scenario) -> None:
        self.heal()
        for folder in (self.parts.state("office"), self.lab.places.images("recovery")):
            volumes.free(folder)
        self.parts.end()
        self.asked = "console"
        for name in ("office", "recovery"):
            site.start_daemon(self.lab.places, name)
            self._empty(name)
        for name in set(self.lab.guests("office")):
            self.lab.destroy_guest("office", name)
        self._parts_of = dict(scenario.guests)
        for name, wish in scenario.guests.items():
            # Tiny ones boot in the time in which the parts are made.
            self.lab.define_guest("office", name, ip=wish.ip, disks=wish.disks, interval_ms=wish.interval_ms)
        self.parts.renew()
        for wish in scenario.guests.values():
            self.lab.wait_http("office", wish.ip, timeout_s=90)
        self.until("both agents", 60, self._not_heard_of)

    def _not_heard_of(self) -> str:
        """What the agents have not told the console yet."""
        hosts = {host["name"] for host in self.asker.get("/hosts") if host["reachable"]}
        vms = {row["vm"] for row in self.status()}
        return ", ".join(({"office", "recovery"} - hosts) | (set(self._parts_of) - vms))

    def _domains(self, name: str) -> set[str]:
        with site.connect(self.lab.libvirt(name)) as connection:
            return {domain.name() for domain in connection.listAllDomains(0)}

    def _empty(self, name: str) -> None:
        """Whoever moved VMs there does not run any more."""
        flags = libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        with site.connect(self.lab.libvirt(name)) as connection:
            for domain in connection.listAllDomains(0):
                if domain.isActive():
                    domain.destroy()
                if name == "recovery":
                    domain.undefineFlags(flags)
            for network in connection.listAllNetworks(0) if name == "recovery" else ():
                if network.isActive():
                    network.destroy()
                if network.isPersistent():
                    network.undefine()

    # --- asking ---------------------------------------------------------------------------------------

    @property
    def asker(self) -> Asker:
        return self.parts.asker(self.asked)

    def status(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.asker.get("/status")
        return rows

    def row(self, vm: str) -> dict[str, Any]:
        for row in self.status():
            if row["vm"] == vm:
                return row
        raise Failed("the console does not know the VM", subject=vm)

    def run(self, vm: str) -> dict[str, Any]:
        """Its newest one."""
        view: dict[str, Any] = self.asker.get(f"/vms/{vm}/run")
        return view

    def until(self, what: str, within_s: float, look: Callable[[], str]) -> None:
        """Until `look` says "" and no longer what is missing. Raises Failed with the last it said."""
        ends = time.monotonic() + within_s
        while True:
            try:
                missing = look()
            except LeewardError as error:  # who is asked may be away for a moment
                missing = str(error)
            if not missing:
                return
            if time.monotonic() > ends:
                raise Failed(f"{what}: not within {within_s:g} s: {missing}")
            time.sleep(_LOOK_S)

    # --- the ground -----------------------------------------------------------------------------------

    def cut(self, *ways: tuple[str, str]) -> None:
        self.cuts |= set(ways)
        wan.cut(self.lab.places, self.cuts)

    def heal(self) -> None:
        self.cuts.clear()
        wan.cut(self.lab.places, ())

    def disk(self, name: str) -> Path:
        return self.parts.state("office") if name == "office state" else self.lab.places.images("recovery")
