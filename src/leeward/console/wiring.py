"""The only place of the console where adapters are chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from leeward.console.desk import Desk
from leeward.console.failovers import Failovers
from leeward.console.fleet import Fleet
from leeward.console.learning import Learner
from leeward.console.links import AgentLink
from leeward.console.plan_desk import PlanDesk
from leeward.console.plan_runs import PlanRuns
from leeward.console.plan_scripts import Scripts
from leeward.console.plans import Plans
from leeward.console.renaming import follow_names
from leeward.console.service import Service
from leeward.domain.errors import LeewardError, NotFound, StoreUnavailable
from leeward.logs import log
from leeward.orchestrator.conductor import Conductor
from leeward.orchestrator.dispatch import dispatch, guarded
from leeward.orchestrator.engine import Engine
from leeward.orchestrator.plan_conductor import PlanConductor
from leeward.state.database import Database
from leeward.state.vault_place import PlaceFile
from leeward.vault.crypto import VaultKeys
from leeward.vault.facade import Vault

_LEARN_S = 30.0
_TAKE_OVER_S = 5.0
_DRILL_S = 30.0
# As long as an agent tries: an operator waits, and a warm replica may be there for when the vault is not.
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """place: of the vault. engine_url: SQLAlchemy's, of the workflow engine's own database. load_keys: gives the
    vault's keys, or raises what the operator has to do first. scripts: folder with the scripts that recovery plans
    may run. executor: this console's name among those on one database. shared: there may be others. may_act: checked
    around each step of a run; does not return when this console is no longer the one that works. opened: called when
    the vault was opened for the first time."""

    place: PlaceFile
    engine_url: str
    load_keys: Callable[[], VaultKeys]
    scripts: Path
    executor: str = "console"
    shared: bool = False
    may_act: Callable[[], None] = lambda: None
    opened: Callable[[VaultKeys], None] = lambda _: None


class LazyVault:
    """Opened at the first use, so that the daemon runs before a vault exists and while it is away."""

    def __init__(self, config: ConsoleConfig) -> None:
        self._config = config
        self._vault: Vault | None = None
        self._lock = threading.Lock()

    def open(self) -> Vault:
        with self._lock:
            if self._vault is None:
                keys = self._config.load_keys()
                try:
                    self._vault = Vault.open(self._config.place.following(_RETRY_S, keys.vault_id), keys=keys)
                except NotFound as gone:  # who holds its key knows that there is a vault: it is away
                    raise StoreUnavailable(gone.message, subject=gone.subject, hint=gone.hint) from None
                self._config.opened(keys)
            return self._vault


class Console:
    """The console's parts, put together. `start` before the first request, `stop` after the last."""

    def __init__(self, config: ConsoleConfig, database: Database, links: Callable[[], Sequence[AgentLink]]) -> None:
        self._stopping = threading.Event()
        self._adopts = False
        self._shared = config.shared
        self.vault = vault = LazyVault(config)
        self._database = database
        self.fleet = Fleet(links)
        self.desk = Desk(database, self.fleet, vault)
        conductor = Conductor(database.runs, self.desk, self._stopping.is_set)
        advance = dispatch(conductor.advance, lambda run_id: plan_conductor.advance(run_id))
        self._engine = Engine(config.engine_url, config.executor, guarded(advance, config.may_act))
        self.failovers = Failovers(database, self.fleet, self.desk, self._engine, self._first_recovery_host)
        scripts = Scripts(config.scripts, self._stopping.is_set)
        plan_desk = PlanDesk(database, self.fleet, self.failovers, scripts)
        plan_conductor = PlanConductor(database.plans, plan_desk, self._stopping.is_set)
        self._plan_runs = PlanRuns(database, self.fleet, plan_desk, self._engine)
        self.plans = Plans(database, self.fleet, vault, scripts, self._plan_runs)
        self.learner = Learner(database, self.desk, vault)
        self.service = Service(database, self.fleet, vault, self.desk, self.failovers)
        self.service.drills.know_plans(self._plan_runs, self.plans.tell)
        self.service.drills.know_vault(self.desk.teller)

    def start(self) -> None:
        """Tell the agents what is wished, and carry on the runs that an earlier process left."""
        # A change that was written down just before we died has not been told to anybody yet.
        self.respread()
        self._engine.launch()
        if self._shared:
            self._engine.take_over()
        self.failovers.revive()
        self._plan_runs.revive()
        threading.Thread(target=self._carry_on, name="carry on", daemon=True).start()
        threading.Thread(target=self._learn, name="learn", daemon=True).start()
        threading.Thread(target=self._drill, name="drills", daemon=True).start()

    def respread(self) -> None:
        """Tell the agents what is wished, also those whose hosts have only now become known."""
        self._database.count()
        self.desk.spread()

    def adopt(self) -> None:
        """From now on take up what the vault knows and we do not: this is a portal. Before `start`."""
        self._adopts = True

    def stop(self) -> None:
        self._stopping.set()
        self._engine.shutdown()
        self.desk.teller.settle()
        self.plans.teller.settle()

    def _carry_on(self) -> None:
        """Again and again: a frozen console that woke may have got hold of one more workflow before it ended, and one
        that was shut down may have left a run whose workflow had noted its end."""
        while not self._stopping.wait(_TAKE_OVER_S):
            try:
                if self._shared:
                    self._engine.take_over()
                self.failovers.carry_on()
                self._plan_runs.revive()
            except Exception:  # the database may be away; the next round tries again
                if not self._stopping.is_set():
                    log.exception("runs that were left could not be looked for")

    def _learn(self) -> None:
        """At once, since we may have been dead while another console worked; then now and then."""
        first = True
        while True:
            try:
                # Plans are asked for beside each VM, so not every time.
                if self._adopts and (self.learner.adopt() or first):
                    self.plans.adopt()
                self.learner.look()
                follow_names(self._database, self.fleet, self.desk, self.vault)
                self.plans.follow_names()
                if first:
                    self.service.drills.tell_again(self.vault.open())
                first = False
            except LeewardError as error:
                log.info("the vault cannot be asked who reigns", error=str(error))
            except Exception:  # a bug here must not keep us from learning for ever
                log.exception("learning failed")
            self._let_go()
            if self._stopping.wait(_LEARN_S):
                return

    def _let_go(self) -> None:
        """Also while the vault is away: just then an order to remove what is left waits for it at its host, and what
        is asked of that host now waits behind the order."""
        try:
            self.desk.let_go()
        except Exception:  # as in `_learn`
            log.exception("what is left at hosts could not be looked after")

    def _drill(self) -> None:
        """Not at once: agents that have not been heard of yet would be taken for away."""
        while not self._stopping.wait(_DRILL_S):
            try:
                self.service.drills.tick()
            except LeewardError as error:
                log.info("drills have to wait", error=str(error))
            except Exception:  # a bug here must not end all drills for good
                log.exception("looking after drills failed")

    def _first_recovery_host(self) -> str:
        for host in self.fleet.view().hosts.values():
            if host.site == "recovery":
                return host.name
        raise NotFound(
            "no recovery host is known",
            hint='Add a [[host]] with site = "recovery" and a storage folder to leeward.toml',
        )
