"""What the vault is told beside its logs, so that a console elsewhere understands them.

Best effort: what counts stands in the logs and in the console's database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any

from leeward.console.checks import VaultOpener
from leeward.domain.errors import LeewardError, StoreUnavailable
from leeward.logs import log
from leeward.network.apart import apart
from leeward.vault.facade import Vault

Document = Callable[[], dict[str, Any]]
# A vault that is away is tried for a minute: whoever begins a failover then must not wait for that.
_PATIENCE_S = 1.0
_LAST_S = 3.0


def told(vault: Vault, vm_id: str, kind: str) -> dict[str, Any]:
    """The newest document of a kind; empty where there is none, or it is damaged: what is only told beside a VM keeps
    nobody from going on with the VM. Raises StoreUnavailable."""
    try:
        return vault.document(vm_id, kind) or {}
    except StoreUnavailable:
        raise
    except LeewardError as error:
        log.warning("what the vault was told cannot be read", vm_id=vm_id, what=kind, error=str(error))
        return {}


class Teller:
    """Thread-safe. One document after the other, in a thread that lives while there are any."""

    def __init__(self, vault: VaultOpener, patience_s: float = _PATIENCE_S) -> None:
        self._vault = vault
        self._patience_s = patience_s
        self._lock = threading.Lock()
        # (VM id, kind) → the newest document, which takes the place of one that was not written yet.
        self._waiting: dict[tuple[str, str], Document] = {}
        self._work: Future[None] | None = None

    def tell(self, kind: str, documents: Mapping[str, Document]) -> None:
        """Write a document of this kind beside each VM; goes on in the background where it takes long. Each is made
        when it is its turn, so that the last one to be written is the newest."""
        with self._lock:
            self._waiting |= {(vm_id, kind): document for vm_id, document in documents.items()}
            if self._work is None or self._work.done():
                self._work = apart(self._tell_all, "vault-teller")
            work = self._work
        for done in wait([work], self._patience_s).done:
            done.result()

    def settle(self) -> None:
        """Before this process ends: what is just being told gets a moment."""
        work = self._work
        if work is not None:
            wait([work], _LAST_S)

    def _tell_all(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._work = None
                    return
                (vm_id, kind), document = next(iter(self._waiting.items()))
                del self._waiting[(vm_id, kind)]
            try:
                self._vault.open().put_document(vm_id, kind, document())
            except LeewardError as error:
                log.warning("the vault was not told", vm_id=vm_id, what=kind, error=str(error))
