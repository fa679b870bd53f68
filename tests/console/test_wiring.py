"""The console's parts as the daemon puts them together know of each other."""

import threading

from tests.console.plan_world import DB
from tests.vault.conftest import CHEAP

from leeward.console.views import DrillRequest
from leeward.console.wiring import Console, ConsoleConfig
from leeward.domain.errors import NotFound
from leeward.domain.plans import Group, Member, Plan
from leeward.state.database import Database
from leeward.state.vault_place import PlaceFile
from leeward.vault.facade import Vault
from leeward.vault.stores.opening import open_store
from leeward.wire.messages import ProtectionMessage


def no_keys():
    raise NotFound("this machine does not hold the vault's key")


def test_drills_know_the_vault(tmp_path):
    vault, _ = Vault.create(open_store(f"file://{tmp_path}/vault", create=True), "x", cost=CHEAP)
    database = Database(f"sqlite:///{tmp_path}/leeward.db")
    database.protect(ProtectionMessage(vm_id=DB, vm_name="db", host="office", claim=0))
    database.plans.add(Plan("shop", (Group("database", (Member(DB, "db"),)),)))
    config = ConsoleConfig(
        place=PlaceFile(tmp_path, f"file://{tmp_path}/vault"),
        load_keys=lambda: vault.keys,
        engine_url=f"sqlite:///{tmp_path}/engine.db",
        scripts=tmp_path / "scripts",
    )
    console = Console(config, database, list)
    console.service.drills.put(DB, DrillRequest(every_s=86_400.0), "anna")
    console.service.drills.put_plan("shop", DrillRequest(every_s=7200.0), "anna")
    for teller in (console.desk.teller, console.plans.teller):
        teller.settle()
    assert vault.document(DB, "drill")["every_s"] == 86_400.0
    assert vault.document(DB, "plans")["drills"]["shop"]["every_s"] == 7200.0
    database.close()


def test_drills_know_plans(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/leeward.db")
    database.plans.add(Plan("shop", (Group("database", (Member(DB, "db"),)),)))
    config = ConsoleConfig(
        place=PlaceFile(tmp_path, f"file://{tmp_path}/vault"),
        load_keys=no_keys,
        engine_url=f"sqlite:///{tmp_path}/engine.db",
        scripts=tmp_path / "scripts",
    )
    drills = Console(config, database, list).service.drills
    assert drills.put_plan("shop", DrillRequest(every_s=86_400.0), "anna").vm_ids == [DB]
    database.close()


def test_what_is_left_at_hosts_is_looked_after_while_the_vault_is_away(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/leeward.db")
    config = ConsoleConfig(
        place=PlaceFile(tmp_path, f"file://{tmp_path}/vault"),
        load_keys=no_keys,
        engine_url=f"sqlite:///{tmp_path}/engine.db",
        scripts=tmp_path / "scripts",
    )
    console = Console(config, database, list)
    looked = []

    def let_go():
        looked.append(True)
        console._stopping.set()

    console.desk.let_go = let_go
    learning = threading.Thread(target=console._learn, daemon=True)
    learning.start()
    learning.join(5)
    console._stopping.set()
    assert looked == [True]
    database.close()
