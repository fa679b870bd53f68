"""Recovery plans written by clicks and keys: made, changed, renamed, deleted; brought in and out as files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, drafting, operator, viewer
from leeward.console.plan_text import read_text, write_text
from leeward.console.plan_views import PlanView
from leeward.console.web.forms import Posted
from leeward.console.web.painter import HEADERS, Trouble, go, trouble_of
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Phrase, Quote, phrase
from leeward.console.web.plan_acts import act
from leeward.console.web.plan_draft import (
    Draft,
    document_of_draft,
    doubles,
    draft_of,
    draft_of_document,
    is_shown,
    new_draft,
    read_draft,
)
from leeward.domain.errors import LeewardError, NotFound
from leeward.domain.plans import Fault
from leeward.state.database import acting
from leeward.state.plans import Changed, KeptPlan

# How it is saved: where nobody was quicker, over what somebody else has made of it, or as another plan.
SAVE_OVER, SAVE_NEW = "save-over", "save-new"
# Nobody mends more at once; the rest is told next.
_MOST_FAULTS = 200

# Takes a document that nothing is wrong with.
Save = Callable[[dict[str, Any]], PlanView]


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the editor shows. name: of the plan as it is kept, "" for a new one; seen: its digest when the editing
    began. theirs: what somebody else has made of it meanwhile; gone: somebody has deleted it."""

    draft: Draft
    name: str = ""
    seen: str = ""
    theirs: KeptPlan | None = None
    gone: bool = False
    focus: str = ""
    said: Phrase | None = None


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    _add_editing(pages, parts)
    _add_drafting(pages, parts)
    _add_deleting(pages, parts)
    _add_files(pages, parts)
    return pages


def show(parts: Parts, request: Request, sheet: Sheet, status: int = 200, trouble: Trouble | None = None) -> Response:
    names = parts.plans.vms()
    taken = {vm for group in sheet.draft["groups"] for vm in group["vms"]}
    free = sorted(((vm_id, name) for vm_id, name in names.items() if vm_id not in taken), key=lambda vm: vm[1])
    return parts.painter.page(
        request,
        "plan_edit.html",
        status,
        trouble=trouble,
        sheet=sheet,
        draft=sheet.draft,
        names=names,
        free=free,
        scripts=parts.plans.scripts(),
        theirs=draft_of(sheet.theirs.plan) if sheet.theirs else None,
        who=_changed_by(parts, sheet.name) if sheet.theirs else "",
        over=sheet.theirs.digest if sheet.theirs else "",
        action=f"/plans/{quote(sheet.name)}/edit" if sheet.name else "/new-plan",
        focus=sheet.focus,
    )


def _changed_by(parts: Parts, name: str) -> str:
    """Who has changed a plan last, "" when that is long ago."""
    events = (event for event in parts.service.events(300) if event["what"] == "plan changed")
    return next((event["who"] for event in events if event["subject"] == name), "")


def _add_editing(pages: APIRouter, parts: Parts) -> None:
    plans = parts.plans

    @pages.get("/new-plan", dependencies=operator)
    def new_plan(request: Request) -> Response:
        return show(parts, request, Sheet(new_draft(), focus="f-name"))

    @pages.post("/new-plan", dependencies=operator)
    def create_plan(request: Request, form: Posted) -> Response:
        draft = read_draft(form)
        about(request, draft["name"][:64])
        return _saved(parts, request, Sheet(draft), lambda document: plans.create(document, acting.get()))

    @pages.get("/plans/{plan}/edit", dependencies=operator)
    def edit_plan(request: Request, plan: str) -> Response:
        kept = plans.kept(plan)
        return show(parts, request, Sheet(draft_of(kept.plan), plan, kept.digest))

    @pages.post("/plans/{plan}/edit", dependencies=operator)
    def change_plan(request: Request, plan: str, form: Posted) -> Response:
        sheet = Sheet(read_draft(form), plan, form["seen"])
        if form["do"] == SAVE_NEW:
            return _saved(parts, request, sheet, lambda document: plans.create(document, acting.get()))
        seen = form["over"] if form["do"] == SAVE_OVER else form["seen"]
        return _saved(parts, request, sheet, lambda document: plans.change(plan, document, seen, acting.get()))


def _add_drafting(pages: APIRouter, parts: Parts) -> None:
    @pages.post("/plan-draft", dependencies=drafting)
    def draft_plan(request: Request, form: Posted, do: str = "") -> Response:
        """The draft after one act of a button; nothing is kept."""
        acted = act(read_draft(form), do, form, parts.plans.vms())
        name, seen = form["original"], form["seen"]
        return show(parts, request, Sheet(acted.draft, name, seen, focus=acted.focus, said=acted.said))


def _saved(parts: Parts, request: Request, sheet: Sheet, save: Save) -> Response:
    document = document_of_draft(sheet.draft)
    found = [*parts.plans.look_over(document), *doubles(sheet.draft)]
    if found:
        return show(parts, request, sheet, 422, _marked(found))
    try:
        view = save(document)
    except Changed as error:
        theirs = replace(sheet, theirs=parts.plans.kept(sheet.name))
        return show(parts, request, theirs, 409, Trouble(Quote(error.message)))
    except NotFound as error:
        if not sheet.name:
            raise
        return show(parts, request, replace(sheet, gone=True), 409, Trouble(Quote(error.message)))
    except LeewardError as error:
        trouble, status = trouble_of(request, error, **{document["name"]: "name"})
        return show(parts, request, sheet, status, trouble)
    return go(request, f"/plans/{quote(view.name)}")


def _marked(found: list[Fault]) -> Trouble:
    fields: dict[str, Phrase | Quote] = {}
    for fault in found[:_MOST_FAULTS]:
        what = Quote(fault.what)
        beside = is_shown(fault.field) or not fault.field
        said = what if beside else phrase(N_("{field}: {what}"), field=fault.field, what=what)
        fields.setdefault(fault.field, said)
    return Trouble(phrase(N_("Not saved yet: something has to be mended first.")), "", fields)


def _add_deleting(pages: APIRouter, parts: Parts) -> None:
    @pages.post("/plans/{plan}/delete", dependencies=operator)
    def delete_plan(request: Request, plan: str) -> Response:
        kept = parts.plans.kept(plan)
        about(request, plan)
        try:
            parts.plans.delete(plan, acting.get())
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return show(parts, request, Sheet(draft_of(kept.plan), plan, kept.digest), status, trouble)
        return go(request, "/plans")


def _add_files(pages: APIRouter, parts: Parts) -> None:
    plans = parts.plans

    @pages.get("/plans/{plan}/file", dependencies=viewer)
    def plan_file(plan: str) -> Response:
        view = plans.get(plan)
        plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in view.name)
        disposition = f"attachment; filename=\"{plain}.yaml\"; filename*=UTF-8''{quote(view.name)}.yaml"
        headers = {**HEADERS, "Content-Disposition": disposition}
        return Response(write_text(view.document), media_type="application/yaml", headers=headers)

    @pages.get("/import-plan", dependencies=operator)
    def import_page(request: Request) -> Response:
        return parts.painter.page(request, "plan_import.html", text="")

    @pages.post("/import-plan", dependencies=operator)
    def import_plan(request: Request, form: Posted) -> Response:
        """What a file says is shown in the editor, to be looked over; it is not kept before it is saved there. The
        file itself is looked over as well: of what it has wrong, the form may not have a trace."""
        try:
            document = read_text(form["text"], "text", trusted=False)
            draft = draft_of_document(document, plans.vms())
        except LeewardError as error:
            trouble, status = trouble_of(request, error, text="text", form="text")
            return parts.painter.page(request, "plan_import.html", status, trouble=trouble, text=form["text"])
        found = [*plans.look_over(document), *plans.look_over(document_of_draft(draft)), *doubles(draft)]
        return show(parts, request, Sheet(draft), 200, _marked(found) if found else None)
