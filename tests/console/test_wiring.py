"""The console's parts as the daemon puts them together know of each other."""

from tests.console.plan_world import DB

from leeward.console.views import DrillRequest
from leeward.console.wiring import Console, ConsoleConfig
from leeward.domain.errors import NotFound
from leeward.domain.plans import Group, Member, Plan
from leeward.state.database import Database


def no_keys():
    raise NotFound("this machine does not hold the vault's key")


def test_drills_know_plans(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/leeward.db")
    database.plans.add(Plan("shop", (Group("database", (Member(DB, "db"),)),)))
    config = ConsoleConfig(
        vault_url=f"file://{tmp_path}/vault",
        load_keys=no_keys,
        engine_url=f"sqlite:///{tmp_path}/engine.db",
        scripts=tmp_path / "scripts",
    )
    drills = Console(config, database, list).service.drills
    assert drills.put_plan("shop", DrillRequest(every_s=86_400.0), "anna").vm_ids == [DB]
    database.close()
