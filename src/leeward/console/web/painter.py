"""Makes pages: templates, with the reader's language, clock and colours, and headers that keep a page to itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from leeward import __version__
from leeward.console.access import about
from leeward.console.actor import Actor, Via, nobody
from leeward.console.errors import status_of
from leeward.console.keys import masked
from leeward.console.web import words
from leeward.console.web.assets import Assets
from leeward.console.web.language import LANGUAGES, Language, chosen, language_named, took, zone_named
from leeward.console.web.phrases import Phrase, Quote
from leeward.domain.access import Role
from leeward.domain.errors import Forbidden, LeewardError

LANGUAGE_COOKIE, THEME_COOKIE, ZONE_COOKIE = "leeward-language", "leeward-theme", "leeward-zone"
THEMES = ("auto", "light", "dark")
HTMX = "hx-request"

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What came of a form that could not be used. fields: name → why, beside the field; else it stands above."""

    message: Phrase | Quote
    hint: str = ""
    fields: Mapping[str, Phrase | Quote] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks, and how."""

    actor: Actor
    language: Language
    theme: str
    zone: tzinfo

    @property
    def csrf(self) -> str:
        """What pages send along with changes, "" where there is no login."""
        return masked(self.actor.csrf) if self.actor.csrf else ""

    def may(self, role: str) -> bool:
        return self.actor.role is not None and self.actor.role.covers(Role(role))


class Painter:
    def __init__(self, assets: Assets) -> None:
        self._languages = {code: language_named(code) for code in LANGUAGES}
        self._rooms = {code: _room(language, assets) for code, language in self._languages.items()}

    def tell(self, name: str, answer: Callable[[], object]) -> None:
        """Let every page ask this, as `name()`."""
        for room in self._rooms.values():
            room.globals[name] = answer

    def reader(self, request: Request) -> Reader:
        """Whom the guard has let in; nobody on pages of errors, which may come before that."""
        actor = getattr(request.state, "admitted", None) or nobody("")
        wanted = request.cookies.get(LANGUAGE_COOKIE)
        code = chosen(wanted, request.headers.get("accept-language", ""))
        theme = request.cookies.get(THEME_COOKIE, "auto")
        zone = zone_named(request.cookies.get(ZONE_COOKIE, "UTC"))
        return Reader(actor, self._languages[code], theme if theme in THEMES else "auto", zone)

    def pieces(self, reader: Reader, template: str) -> Any:
        """The macros of a template, for this reader; make once, call often."""
        return self._rooms[reader.language.code].get_template(template).make_module({"reader": reader})

    def page(
        self, request: Request, template: str, status: int = 200, *, trouble: Trouble | None = None, **values: Any
    ) -> HTMLResponse:
        reader = self.reader(request)
        room = self._rooms[reader.language.code]
        path = request.url.path
        text = room.get_template(template).render(
            reader=reader, path=path, here=here(request), trouble=trouble, version=__version__, **values
        )
        return HTMLResponse(text, status, HEADERS)


def _room(language: Language, assets: Assets) -> Environment:
    room = Environment(
        loader=PackageLoader("leeward.console.web"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        cache_size=200,
        auto_reload=False,  # they change with the package alone; looking after each of them costs as much as a page
    )
    room.install_gettext_callables(language.gettext, language.ngettext, newstyle=True)  # type: ignore[attr-defined]

    def icon(name: str) -> Markup:
        return Markup('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>').format(
            assets.url("icons.svg"), name
        )

    room.filters |= {
        "size": language.size,
        "span": language.span,
        "took": took,
        "number": language.number,
        "percent": language.percent,
        "say": language.say,
        "alone": language.alone,
        # A name stays as it is, though the catalogue may have that word.
        "say_name": lambda what: what if isinstance(what, str) else language.say(what),
        "told": language.told,
        "roleword": lambda value: language.gettext(words.ROLES[value]),
        "stepword": lambda value: language.gettext(words.STEPS[value]),
        "kindword": lambda value: language.gettext(words.KINDS[value]),
        "digest": lambda text: hashlib.sha256(text.encode()).hexdigest()[:8],
        "query": lambda pairs: ("?" + urlencode(pairs)) if pairs else "",
    }
    room.globals |= {"asset": assets.url, "icon": icon, "languages": LANGUAGES, "themes": THEMES, "words": words}
    return room


# --- answers ------------------------------------------------------------------------------------------------


def here(request: Request) -> str:
    """The page's own address, to come back to."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def go(request: Request, target: str) -> Response:
    """On to another page, after something was done."""
    if HTMX in request.headers:
        return Response(status_code=204, headers={"HX-Redirect": target, **HEADERS})
    return RedirectResponse(target, 303, HEADERS)


def safe_target(text: str) -> str:
    """An address of ours, whatever a link says where to go after signing in."""
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if plain else "/"


def must_be_ours(request: Request) -> None:
    """Doors that are open to everybody have no secret of a login to show: only a page of ours (or a program) can set
    this header, since a foreign page would have to ask first. Raises Forbidden."""
    actor: Actor = request.state.admitted
    if actor.via is not Via.LOCAL and HTMX not in request.headers:
        raise Forbidden("this request does not come from a page of this console", hint="Load the page again")


def trouble_of(request: Request, error: LeewardError, /, **fields: str) -> tuple[Trouble, int]:
    """A form's trouble and the answer's status. fields: subject of an error → the field beside which to say it."""
    about(request, getattr(request.state, "subject", None) or error.subject, error.message)
    message = Quote(error.message)
    beside = fields.get(error.subject) or fields.get(error.code)
    hint = "" if for_terminals(error.hint) else error.hint
    return Trouble(message, hint, {beside: message} if beside else {}), status_of(error)


def for_terminals(hint: str) -> bool:
    """Whether a hint speaks of the command line, which who looks at a page does not have before him."""
    return "`leeward" in hint or " --" in hint


def wrong(fields: Mapping[str, Phrase]) -> Trouble:
    """Fields that were filled in wrongly."""
    return Trouble(next(iter(fields.values())), "", dict(fields))
