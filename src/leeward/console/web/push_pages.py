"""Installing an agent over SSH: the host's key first, to be compared; then user and password, for this once."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, admin
from leeward.console.picks import Site
from leeward.console.pushes import Pushes, install_tasks, packed, source_root
from leeward.console.web.commands import on_host
from leeward.console.web.forms import Form, Posted, required, whole_field
from leeward.console.web.integrate_pages import STORAGE, name_is_taken
from leeward.console.web.integrating import HOME
from leeward.console.web.painter import go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.domain.errors import LeewardError, Refused
from leeward.network.ssh import HostKeys, Remote, host_keys

HostPage = Callable[..., Response]


def router(parts: Parts, pushes: Pushes, host_page: HostPage) -> APIRouter:
    """host_page: the page of a picked host, which all of this is on."""
    pages = APIRouter(route_class=GuardedRoute)
    integration = parts.integration

    @pages.post("/services/recovery/host/{address}/key", dependencies=admin)
    def ask_for_host_key(request: Request, address: str, form: Posted) -> Response:
        about(request, address, f"{form['user'][:64]}, port {form['port'][:5]}")
        integration.progress().pick(address)
        bad = required(form, "user", "port")
        port = whole_field(form, "port", bad)
        if bad:
            return host_page(request, address, 422, wrong(bad), form, of="push")
        try:
            found = host_keys(address, port or 0)
        except LeewardError as error:
            trouble, status = trouble_of(request, error, user="user", port="port")
            return host_page(request, address, status, trouble, form, of="push")
        return host_page(request, address, values=form, keys=found)

    @pages.post("/services/recovery/host/{address}/install", dependencies=admin)
    def install_agent(request: Request, address: str, form: Posted) -> Response:
        """Password and passphrase are used, and kept nowhere; no page shows them again."""
        about(request, address, f"{form['user'][:64]} {form['name'][:63]} {form['site'][:16]}")
        integration.progress().pick(address)
        bad = _checked(parts, address, form)
        port = whole_field(form, "port", bad)
        keys: HostKeys | None = None
        try:
            keys = host_keys(address, port or 0)
            if set(form.all("known")) != set(keys.fingerprints):
                raise Refused("the host has shown another key than before", subject=address)
            if bad:
                return host_page(request, address, 422, wrong(bad), form, keys=keys, of="push")
            remote = Remote(address, port or 0, form["user"], form["password"], keys)
            root = source_root()
            remote.run("true")  # whether this user is let in, and rules there
            name = form["name"].strip()
            site: Site = "recovery" if form["site"] == "recovery" else "source"
            integration.check_name(address, name)

            def script() -> str:
                token = integration.make_token(address, name, site).token
                url = "" if parts.places.handed() else parts.door.url
                return on_host(name, site, url, token, STORAGE, unlock=False)

            pushes.start(address, install_tasks(remote, lambda: packed(root), script, form["passphrase"]))
        except LeewardError as error:
            beside = {"name": "name", "user": "user", "port": "port"}
            if isinstance(error, Refused) and "let this user in" in error.message:
                beside[address] = "password"
            trouble, status = trouble_of(request, error, **beside)
            return host_page(request, address, status, trouble, form, keys=keys, of="push")
        parts.database.record("agent installation begun", address, name)
        return go(request, f"{HOME}/host/{quote(address)}")

    return pages


def _checked(parts: Parts, address: str, form: Form) -> dict[str, Phrase]:
    bad = required(form, "user", "port", "name")
    if form["site"] not in ("source", "recovery"):
        bad["site"] = phrase(N_("Choose a site."))
    if not form["sure"]:
        bad["sure"] = phrase(N_("Compare the key first."))
    if name_is_taken(parts, address, form["name"].strip()):
        bad.setdefault("name", phrase(N_("A host of this name exists.")))
    return bad
