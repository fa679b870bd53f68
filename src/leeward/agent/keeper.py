"""The keeper: prunes the logs of the VMs that this agent replicates, by their policies, now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from leeward.domain.errors import LeewardError, Refused
from leeward.domain.retention import Retention
from leeward.logs import log
from leeward.vault.facade import Vault
from leeward.wire.messages import PolicyMessage, ProtectionMessage

_LOOK_S = 15.0
# A VM's log is pruned this often within its window, but neither all the time nor less than once an hour.
_SHARE, _SHORTEST_S, _LONGEST_S = 1 / 24, 60.0, 3600.0


def retention_of(policy: PolicyMessage) -> Retention:
    return Retention(policy.retain_s, policy.hourly_s, policy.daily_s)


def together(wish: ProtectionMessage, wishes: Iterable[ProtectionMessage]) -> dict[str, Retention]:
    """The other VMs of its consistency group, and what they keep."""
    group = wish.policy.group
    return {
        other.vm_id: retention_of(other.policy)
        for other in wishes
        if group and other.policy.group == group and other.vm_id != wish.vm_id
    }


def interval(policy: PolicyMessage) -> float:
    """Seconds between two prunings of one VM's log."""
    return min(max(policy.retain_s * _SHARE, _SHORTEST_S), _LONGEST_S)


class Keeper:
    """A thread of its own, so that no cycle ever waits for a deletion.

    wishes, epochs: what is protected, and the epoch in which this agent writes each VM's log: only its writer prunes
    a log. open_vault: the vault itself, not what is seen through a spool, whose points nobody else has yet.
    on_pruned: told the VM whose log was looked through, pruned or not.
    """

    def __init__(
        self,
        wishes: Callable[[], Sequence[ProtectionMessage]],
        epochs: Callable[[], Mapping[str, int]],
        open_vault: Callable[[], Vault],
        on_pruned: Callable[[str], None] = lambda vm_id: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wishes = wishes
        self._epochs = epochs
        self._open_vault = open_vault
        self._on_pruned = on_pruned
        self._clock = clock
        self._vault: Vault | None = None
        self._due: dict[str, float] = {}
        # VM id → why its log could not be pruned the last time.
        self.troubles: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Killing it would do no harm either: pruning goes on where it was."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.look()

    def look(self) -> None:
        """Prune every log that is due."""
        wishes = {wish.vm_id: wish for wish in self._wishes()}
        for gone in self._due.keys() - wishes.keys():
            del self._due[gone]
            self.troubles.pop(gone, None)
        for vm_id, wish in wishes.items():
            epoch = self._epochs().get(vm_id)
            # The first time an interval after the start: whoever restarts in a loop must not prune in a loop.
            due = self._due.setdefault(vm_id, self._clock() + interval(wish.policy))
            if epoch is not None and self._clock() >= due and not self._over.is_set():
                self._due[vm_id] = self._clock() + interval(wish.policy)
                self._tend(wish, epoch)

    def _tend(self, wish: ProtectionMessage, epoch: int) -> None:
        try:
            if self._vault is None:
                self._vault = self._open_vault()
            others = together(wish, self._wishes())
            plan = self._vault.prune_plan(wish.vm_id, retention_of(wish.policy), epoch=epoch, together=others)
            if not plan.empty:
                done = self._vault.prune(plan)
                facts = {"points": done.points, "objects": done.objects, "bytes": done.bytes, "kept": done.locked}
                log.info("pruned", vm=wish.vm_name, **facts)
            self.troubles.pop(wish.vm_id, None)
            self._on_pruned(wish.vm_id)
        except Refused as busy:
            log.info("pruning put off", vm=wish.vm_name, reason=str(busy))
        except LeewardError as error:
            log.warning("pruning failed", vm=wish.vm_name, error=str(error))
            self.troubles[wish.vm_id] = str(error)
        except Exception as error:  # a bug here must not end the pruning of all other VMs
            log.exception("pruning failed unexpectedly", vm=wish.vm_name)
            self.troubles[wish.vm_id] = f"internal error: {error!r}"
