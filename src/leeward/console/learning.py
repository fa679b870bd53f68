"""What a console learns from the vault: VMs that another console has moved, or that it has never heard of.

The log's epoch says who reigns, beyond doubt. The life document beside it explains how that came to be; it may lag
behind by the moment in which a console died, so where both disagree the epoch is right.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from leeward.console.checks import VaultOpener
from leeward.console.desk import LIFE, Desk
from leeward.console.drill_documents import DRILL, adopted_schedule
from leeward.console.telling import told
from leeward.domain.errors import Damaged, LeewardError, StoreUnavailable
from leeward.domain.lifecycle import Phase, under_way
from leeward.domain.runs import RunState
from leeward.logs import log
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.vault.facade import Vault
from leeward.vault.reigning import MOVES, PAST_DAMAGE, Reign
from leeward.wire.messages import PolicyMessage, ProtectionMessage

_AT_ONCE = 300
CATALOG = "catalog"  # the vault's document that lets a recovery site know a VM by name and policy


def catalog_document(wish: ProtectionMessage) -> dict[str, Any]:
    """What CATALOG says of a VM."""
    return {"name": wish.vm_name, **wish.model_dump(mode="json")}


class Learner:
    def __init__(self, database: Database, desk: Desk, vault: VaultOpener) -> None:
        self._database = database
        self._desk = desk
        self._vault = vault
        # VM id → the epoch and claim that have been looked into: most looks find nothing new, and should cost little.
        self._seen: dict[str, tuple[int, int]] = {}
        self._next = 0

    def look(self) -> list[str]:
        """Of the VMs that this console protects: which have been moved by another one? Their names."""
        moved = []
        vault = self._vault.open()
        lives = self._database.lives.all()
        for wish in self._turn(self._database.desired().protections):
            try:
                if self._look_at(vault, wish, lives.get(wish.vm_id)):
                    moved.append(wish.vm_name)
            except StoreUnavailable:
                raise  # of the others nothing could be learnt either
            except LeewardError as error:  # a damaged log must not keep us from learning of all the others
                log.warning("it cannot be learnt who reigns", vm=wish.vm_name, error=str(error))
        self._next += _AT_ONCE
        # Agents that have heard of a newer state than ours: this console was restored from a backup. They listen to
        # us again only now that we know where their VMs are.
        if self._database.catch_up(self._desk.newest_generation()) or moved:
            self._spread()
        return moved

    def _look_at(self, vault: Vault, wish: ProtectionMessage, life: Life | None) -> bool:
        """Whether it has been moved by another console."""
        if life is not None and under_way(life.phase) and not self._beaten(vault, life, wish):
            return False  # by ourselves, at this very moment
        vm_log = vault.log(wish.vm_id)
        epoch = vm_log.epoch()
        if self._seen.get(wish.vm_id) == (epoch, wish.claim):
            return False
        # Not who reigns now: an agent that lost its memory begins an epoch that moves nothing.
        move = vm_log.last_move()
        self._seen[wish.vm_id] = (epoch, wish.claim)
        if move is None or not has_moved(wish, move):
            return False
        self._take_note(vault, wish, move, epoch)
        return True

    def _turn(self, wishes: Sequence[ProtectionMessage]) -> Sequence[ProtectionMessage]:
        """Those whose turn it is: each look is a request to the vault. At first all, and as long as they are few."""
        if self._next == 0 or len(wishes) <= _AT_ONCE:
            return wishes
        begin = self._next % len(wishes)
        return [*wishes[begin:], *wishes[:begin]][:_AT_ONCE]

    def _beaten(self, vault: Vault, life: Life, wish: ProtectionMessage) -> bool:
        """Whether our own run has stalled since another console's run was quicker. Ours ends then."""
        run = self._database.runs.run(life.run_id)
        if run.state is not RunState.STALLED:
            return False
        seen = run.result("check") or run.result("check-home") or {"claim": wish.claim}
        reign = vault.log(life.vm_id).reign()
        # To go on past damage moves nothing: an operator may retry the run, or take it back.
        theirs = (
            reign is not None
            and reign.reason in MOVES
            and reign.reason != PAST_DAMAGE
            and not self._desk.checks.ours(run, reign.info.get("run"))
        )
        if reign is None or not theirs or reign.epoch <= int(seen["claim"]):
            return False
        why = f"another console has moved it to {reign.info.get('host')}"
        self._desk.give_up(run, why)
        return True

    def adopt(self) -> list[str]:
        """Everything that the vault knows and this console does not; the names of the VMs that are new to it."""
        vault = self._vault.open()
        known = self._database.wishes()
        found = []
        for vm_id in vault.vm_ids():
            if vm_id in known:
                continue
            try:
                wish = self._adopted(vault, vm_id)
            except LeewardError as error:
                log.warning("a VM in the vault cannot be read", vm_id=vm_id, error=str(error))
                continue
            if wish is not None:
                found.append(wish.vm_name)
        if found:
            self._spread()
        return found

    def _adopted(self, vault: Vault, vm_id: str) -> ProtectionMessage | None:
        vm_log = vault.log(vm_id)
        if not vm_log.begun():
            return None  # nothing of it was ever replicated
        try:
            reign, move = vm_log.reign(), vm_log.last_move()
        except Damaged as error:  # it can be brought up from an older point all the same
            log.warning("a VM's log cannot be read to its end", vm_id=vm_id, error=str(error))
            reign, move = vm_log.certain()
        epoch = reign.epoch if reign else 0
        catalog = vault.document(vm_id, CATALOG) or {}
        document = vault.document(vm_id, LIFE) or {}
        home = str(document.get("home") or catalog.get("host") or (reign.info.get("host") if reign else "") or "")
        name = str(catalog.get("name") or document.get("vm_name") or vm_id)
        # In a disaster nothing is copied to where nobody has asked for it: what was warm was another agent's.
        policy = _policy(catalog).model_copy(update={"warm": ""})
        wish = ProtectionMessage(vm_id=vm_id, vm_name=name, host=home, policy=policy, claim=max(epoch - 1, 0))
        # First all that the vault has to tell: a VM that is known once is not adopted again.
        drill = adopted_schedule(vm_id, told(vault, vm_id, DRILL), time.time())
        self._database.protect(wish)
        if drill is not None:
            self._database.drills.put(drill)
        self._database.record("adopted from the vault", name, who="leeward")
        if move is not None and move.info.get("host") not in (None, home):
            self._take_note(vault, wish, move, epoch)
        return wish

    def _take_note(self, vault: Vault, wish: ProtectionMessage, move: Reign, epoch: int) -> None:
        """epoch: the log's newest."""
        host = str(move.info["host"])
        document = vault.document(wish.vm_id, LIFE) or {}
        life = learned_life(wish, document, host, self._database.lives.get(wish.vm_id))
        log.info("another console has moved a VM", vm=wish.vm_name, to=host, phase=life.phase)
        self._database.move(wish.vm_id, host, epoch)
        self._database.lives.put(life)
        self._database.record(f"found at {host}: moved by another console", wish.vm_name, who="leeward")

    def _spread(self) -> None:
        self._database.count()
        self._desk.spread()


def has_moved(wish: ProtectionMessage, reign: Reign) -> bool:
    """Whether the log is written from another host than ours, because the VM itself went there. Pure."""
    return reign.reason in MOVES and reign.epoch > wish.claim and reign.info.get("host") != wish.host


def learned_life(wish: ProtectionMessage, document: dict[str, Any], host: str, known: Life | None) -> Life:
    """Where a VM stands that was found at `host`. Pure.

    document: what the console that moved it wrote, which may be of an earlier move; then the VM counts as moved and
    not committed: nothing is deleted on a guess.
    """
    home = str(document.get("home") or (known.home if known else wish.host))
    away = str(document.get("away") or (known.away if known else ""))
    definition = str(document.get("definition") or (known.definition if known else ""))
    phase = Phase(document["phase"]) if document.get("phase") in set(Phase) else Phase.AWAY
    if host == home:
        phase = phase if phase in (Phase.HOME, Phase.BACK) else Phase.BACK if away else Phase.HOME
    else:
        away = host
        phase = phase if phase in (Phase.AWAY, Phase.SETTLED) else Phase.AWAY
    return Life(wish.vm_id, wish.vm_name, phase, home, away, definition, str(document.get("run", "")))


def _policy(catalog: dict[str, Any]) -> PolicyMessage:
    try:
        return PolicyMessage.model_validate(catalog.get("policy", {}))
    except ValidationError:
        return PolicyMessage()
