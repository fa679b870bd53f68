"""Hosts and their agents: who is there, of which version, until when; revoking an agent, removing a host."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from leeward import __version__
from leeward.console.access import GuardedRoute, about, admin, viewer
from leeward.console.agent_views import AgentView
from leeward.console.host_removal import Outlook
from leeward.console.web.forms import Form, Posted
from leeward.console.web.hindrances import hindrance
from leeward.console.web.host_rows import AgentLine, agent_lines
from leeward.console.web.live import Piece, stream
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, phrase
from leeward.console.web.watch import Moment
from leeward.domain.errors import LeewardError, NotFound


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    _add_list(pages, parts)
    _add_revoking(pages, parts)
    _add_removing(pages, parts)
    return pages


def _add_list(pages: APIRouter, parts: Parts) -> None:
    agents = parts.agents

    def lines(moment: Moment, views: Sequence[AgentView], revoked: bool) -> list[AgentLine]:
        return agent_lines(moment, views, platform.node(), __version__, revoked, parts.machine.all_hosts())

    @pages.get("/hosts", dependencies=viewer)
    def hosts(request: Request, revoked: bool = False) -> Response:
        """revoked: show these agents as well."""
        views = agents.views()
        gone = sum(bool(view.revoked) for view in views)
        shown = lines(parts.watch.look(), views, revoked)
        return parts.painter.page(request, "hosts.html", lines=shown, gone=gone, revoked=revoked)

    @pages.get("/hosts/live", dependencies=viewer)
    def hosts_live(request: Request, revoked: bool = False) -> Response:
        pieces = parts.painter.pieces(parts.painter.reader(request), "host_pieces.html")

        def view(moment: Moment) -> Sequence[Piece]:
            shown = lines(moment, agents.views(), revoked)
            return [Piece("agents", shown, lambda: str(pieces.agents(shown)))]

        return stream(request, parts.watch, view)


def _add_revoking(pages: APIRouter, parts: Parts) -> None:
    agents = parts.agents

    def revoke_page(
        request: Request, agent: AgentView, status: int = 200, trouble: Trouble | None = None, typed: str = ""
    ) -> Response:
        there = [host for host in parts.watch.look().hosts if host.name in agent.hosts]
        return parts.painter.page(
            request,
            "revoke.html",
            status,
            trouble=trouble,
            agent=agent,
            hosts=there,
            values=Form([("confirm", typed)]),
        )

    @pages.get("/hosts/agents/{agent_id}/revoke", dependencies=admin)
    def confirm_revoking(request: Request, agent_id: str) -> Response:
        return revoke_page(request, _agent(agents.views(), agent_id))

    @pages.post("/hosts/agents/{agent_id}/revoke", dependencies=admin)
    def revoke_agent(request: Request, agent_id: str, form: Posted) -> Response:
        agent = _agent(agents.views(), agent_id)
        about(request, agent.name, agent_id)
        if form["confirm"].strip() != agent.name:
            bad = {"confirm": phrase(N_("Type the agent's name, {agent}, to confirm."), agent=agent.name)}
            return revoke_page(request, agent, 422, wrong(bad), form["confirm"])
        try:
            agents.revoke(agent_id)
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return revoke_page(request, agent, status, trouble, form["confirm"])
        parts.watch.fresh()
        return go(request, "/hosts")


def _add_removing(pages: APIRouter, parts: Parts) -> None:
    def remove_page(
        request: Request, outlook: Outlook, status: int = 200, trouble: Trouble | None = None, typed: str = ""
    ) -> Response:
        ids = {view.name: view.agent_id for view in parts.agents.views() if not view.revoked}
        return parts.painter.page(
            request,
            "remove_host.html",
            status,
            trouble=trouble,
            outlook=outlook,
            hindrances=[hindrance(outlook.host, one, ids) for one in outlook.obstacles],
            values=Form([("confirm", typed)]),
        )

    @pages.get("/hosts/remove", dependencies=admin)
    def confirm_removing(request: Request, host: str) -> Response:
        return remove_page(request, parts.removal.look(host))

    @pages.post("/hosts/remove", dependencies=admin)
    def remove_host(request: Request, form: Posted) -> Response:
        host = form["host"]
        about(request, host[:255])
        outlook = parts.removal.look(host)
        if outlook.obstacles:
            about(request, host[:255], outlook.why_not)
            return remove_page(request, outlook, 409)
        if form["confirm"].strip() != host:
            bad = {"confirm": phrase(N_("Type the host's name, {host}, to confirm."), host=host)}
            return remove_page(request, outlook, 422, wrong(bad), form["confirm"])
        try:
            parts.removal.remove(host)
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return remove_page(request, outlook, status, trouble, form["confirm"])
        parts.watch.fresh()
        return go(request, "/hosts")


def _agent(views: Sequence[AgentView], agent_id: str) -> AgentView:
    """Raises NotFound, also for one that is revoked already."""
    found = next((view for view in views if view.agent_id == agent_id and not view.revoked), None)
    if found is None:
        raise NotFound("there is no such agent, or it is revoked already", subject=agent_id)
    return found
