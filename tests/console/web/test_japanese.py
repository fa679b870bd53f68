"""Pages in Japanese, of everything that can be wrong: no sentence of ours is left in English.

One world goes from bad to worse; in each state every page is looked at, and what is refused is asked for.
"""

import html
import re
import time

import pytest
from tests.console.alerts.receivers import MailServer
from tests.console.plan_world import APP, BARE, DB, FRONT, PlanWorld
from tests.console.web.stand import Stand
from tests.console.web.test_moves import until, until_phase
from tests.console.world import KIB64, Place

from leeward.console.views import FailoverRequest
from leeward.domain.alerts import AlertKind, Decision, Trouble
from leeward.domain.errors import HypervisorError, StoreUnavailable
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.runs import RunState
from leeward.replication.spool import SpoolingStore
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

VMS = {DB: "db", APP: "app", FRONT: "front", BARE: "bare"}
# What is English in Japan, too: what other programs say, quoted, and names.
QUOTED = re.compile(r"QEMU said no to it|the line to the vault is cut|while parsing .* flow node.*")
SEEN = ("aria-label", "title", "placeholder", "alt", "hx-confirm")
PAGES = (
    *("/", "/services", "/hosts", "/hosts?revoked=true", "/runs", "/alerts", "/alerts?show=past", "/vault", "/audit"),
    *("/recovery", f"/recovery?vm={DB}", f"/recovery?vm={BARE}", f"/recovery?vm={DB}&vm={BARE}&vm={APP}"),
    *(
        "/plans",
        "/plans/shop",
        "/plans/shop/edit",
        "/plans/shop/start?type=planned",
        "/new-plan",
        "/import-plan",
        "/users",
    ),
    *("/settings", "/settings/alerts", "/nothing", "/runs/nothing", "/vms/nothing", "/recovery?page=x"),
    *("/services/recovery", "/services/recovery/place", "/services/recovery/scan", "/services/recovery/hosts"),
    *("/services/recovery/done", "/services/recovery/host/10.0.0.9"),
)
DEEDS = ("pause", "resume", "disable", "commit", "cleanup", "cancel", "retry", "test")


def said(page):
    """What a person reads on it or hears of it, piece by piece, without commands."""
    page = re.sub(r"<(script|style|pre|code|svg)\b.*?</\1>", "\n", page, flags=re.S)
    found = [value for name in SEEN for value in re.findall(rf'\b{name}="([^"]*)"', page)]
    found += re.sub(r"<[^>]*>", "\n", page).splitlines()
    return [re.sub(r"`[^`]*`", "", html.unescape(piece)) for piece in found]


def english(page):
    """What has three English words in a row."""
    return [
        piece.strip() for piece in said(page) if re.search(r"[A-Za-z']{2,}( [A-Za-z']+){2,}", QUOTED.sub("", piece))
    ]


class SmallSpool(Place):
    def spooled(self, vm_id):
        store = SpoolingStore(self.line, MemoryStore(), 2 * KIB64)
        return Vault.open(store, keys=self.world.keys), store


class BadWorld(PlanWorld):
    place_type = SmallSpool


class Reader:
    """Looks at every page in Japanese. left: English → where it was first seen."""

    def __init__(self, stand):
        self.stand = stand
        self.pages = stand.as_role("admin", "anna", language="ja")
        self.left = {}

    def note(self, where, answer):
        for piece in english(answer.text):
            self.left.setdefault(piece, where)

    def look(self, when, *pages):
        self.stand.watch.fresh()
        for page in pages or self.addresses():
            self.note(f"{when}: {page}", self.pages.get(page))

    def addresses(self):
        yield from PAGES
        for vm in VMS:
            yield f"/vms/{vm}"
            yield f"/enable?vm={vm}"
            if vm in (DB, APP):
                yield from (f"/failover?vm={vm}&type={kind}" for kind in ("planned", "unplanned", "test", "failback"))
                yield from (f"/do/{deed}?vm={vm}" for deed in DEEDS)
            yield from (f"/vms/{vm}/evidence/{test.run}" for test in self.stand.service.evidence.of(vm))
            yield from (f"/runs/{run.id}" for run in self.stand.service.runs(vm, 20))

    def ask(self, when, vm, *deeds):
        """As somebody would whose page is old."""
        for deed in deeds:
            self.note(f"{when}: {deed}", self.pages.post(f"/do/{deed}", {"vm": vm, "confirm": VMS[vm]}))
        for kind in ("planned", "unplanned", "failback"):
            confirmed = VMS[vm] if vm == BARE else ""  # the others would go
            form = {"vm": vm, "type": kind, "confirm": confirmed, "point": "999999", "timeout": "x" * (vm == APP)}
            self.note(f"{when}: {kind}", self.pages.post(f"/failover?vm={vm}", form))


@pytest.fixture
def reader(tmp_path):
    stand = Stand(tmp_path, BadWorld)
    yield Reader(stand)
    stand.close()


def refuse(*_, **__):
    raise HypervisorError("QEMU said no to it", hint="See the daemon's log")


def vault_gone():
    raise StoreUnavailable("the line to the vault is cut")


def fill_forms_wrongly(reader):
    post = lambda path, **form: reader.note(f"wrong {path}", reader.pages.post(path, form))  # noqa: E731
    post(f"/enable?vm={DB}", vm=DB, rpo_s="soon", retain_s="1s", bandwidth="-1", group="a b c", drill_every="x")
    post("/users", name="anna", role="viewer", password="short")
    post("/users", name="9", role="viewer", password="x" * 20)
    post("/settings/password", current="wrong", password="short", again="other")
    post("/settings/alerts/mail", enabled="1", host="no host", port="x", sender="x", recipients="y")
    post("/settings/alerts/webhook", enabled="1", url="ftp://x", secret="x")
    post("/services/recovery/scan", ranges="10.0.0.0/8")
    post("/services/recovery/scan", ranges="fe80::1, 300.1.1.1, 10.0.0.9-10.0.0.1")
    post("/services/recovery/scan", ranges="127.0.0.1")
    post("/services/recovery/scan/add", host="-")
    post("/services/recovery/scan/add", host="10.0.0.9")
    post("/services/recovery/host/10.0.0.9/token", name="no name", site="source")
    post("/services/recovery/host/10.0.0.9/key", user="root", port="x")
    post("/services/recovery/place", place="here", name="no name", storage="here", network="bridge:none")
    post("/import-plan", text="name: x\ngroups: [a, b]\nother: 1")
    post("/import-plan", text="{")
    post("/new-plan", name="shop")
    post("/sign-in", user="anna", password="wrong")


def break_mail(reader):
    """A channel that does not get through."""
    server = MailServer()
    server.stop()
    form = {"enabled": "1", "host": "127.0.0.1", "port": str(server.port), "security": "plain", "ca": ""}
    form |= {"sender": "leeward@office.example", "recipients": "anna@office.example", "user": "", "password": ""}
    reader.note("mail", reader.pages.post("/settings/alerts/mail/test", form))
    reader.note("mail", reader.pages.post("/settings/alerts/mail", form))


def stall(world, name):
    world.office.hypervisor.shutdown = refuse
    world.service.failover(name, Event.PLANNED, FailoverRequest(), "anna")
    until(lambda: world.service.runs(DB, 1)[0].state == RunState.STALLED)
    del world.office.hypervisor.shutdown


def damage(world):
    store = world.store
    with store._lock:
        keys = [key for key in store._keys if "/part/" in key or "/log/" in key or "/map/" in key]
        for key in keys[::2]:
            store._objects[key] = store._objects[key][:-9] + b"xxxxxxxxx"
        for key in keys[1::3]:
            store._keys.remove(key)
            del store._objects[key]


def test_no_sentence_of_ours_is_in_english(reader):
    stand, world = reader.stand, reader.stand.world
    reader.look("nothing is protected")
    world.protect_all()
    world.create()
    reader.look("all is well")
    for vm in (DB, BARE):
        reader.ask("all is well", vm, "resume", "commit", "cleanup", "cancel", "retry")
    fill_forms_wrongly(reader)
    break_mail(reader)

    world.recovery.reach.silent.add(FRONT)
    world.recovery.copies.picture = refuse
    world.service.start_test("front", "latest", "anna")
    until(lambda: world.service.test("front").done)
    stall(world, "db")
    world.service.failover("app", Event.PLANNED, FailoverRequest(), "anna")
    until_phase(stand, "app", Phase.AWAY)
    reader.look("one has stalled, one is away, one is tested")
    for vm in VMS:
        reader.ask("one has stalled", vm, "resume", "disable", "commit", "test")
    reader.ask("one has stalled", DB, "cancel", "retry")
    for kind in ("test", "planned", "unplanned"):
        reader.note("plan", reader.pages.post("/plans/shop/start", {"type": kind, "confirm": "shop"}))
    for ask in ("approve", "pause", "resume", "retry", "abort", "cleanup"):
        reader.note("plan", reader.pages.post(f"/plans/shop/ask/{ask}", {}))
    damage(world)
    stand.care.begin(deep=True, by="anna")
    until(lambda: stand.care.progress is None)
    reader.look("the vault is damaged", "/", "/vault", "/alerts")

    world.office.line.cut = world.recovery.line.cut = True
    for _ in range(8):
        for name in (DB, FRONT):
            world.office.hypervisor._vms[name].write("vda", 0, world.dice.randbytes(KIB64))
        time.sleep(0.7)
    reader.look("the spool is full")
    world.open_vault_of_console = vault_gone
    reader.look("the vault is away")
    for vm in VMS:
        reader.ask("the vault is away", vm, "commit", "test", "cleanup")
    for link in world.links:
        link.cut = True
    stand.alerts.book.apply(
        Decision(tuple((Trouble(kind, "x", "db", "it does not run"), 9.0) for kind in AlertKind), (), ()), 0.0
    )
    reader.look("nobody answers")
    world.office.line.cut = world.recovery.line.cut = False
    assert "\n".join(f"{where}: {piece}" for piece, where in reader.left.items()) == ""
