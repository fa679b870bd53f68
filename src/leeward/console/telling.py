"""What the vault is told beside its logs, so that a console elsewhere understands them.

Best effort: what counts stands in the logs and in the console's database.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from functools import partial
from typing import Any

from leeward.console.checks import VaultOpener
from leeward.domain.errors import LeewardError
from leeward.logs import log
from leeward.network.apart import apart

Document = Callable[[], dict[str, Any]]
# A vault that is away is tried for a minute: whoever begins a failover then must not wait for that.
_PATIENCE_S = 1.0


class Teller:
    """Thread-safe."""

    def __init__(self, vault: VaultOpener, patience_s: float = _PATIENCE_S) -> None:
        self._vault = vault
        self._patience_s = patience_s
        self._turns: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)

    def tell(self, kind: str, documents: Mapping[str, Document]) -> None:
        """Write a document of this kind beside each VM. Goes on in the background where it takes long; each is made
        when it is its turn, so that the last one to be written is the newest."""
        asked = [
            apart(partial(self._tell, vm_id, kind, document), "vault-teller") for vm_id, document in documents.items()
        ]
        for done in wait(asked, self._patience_s).done:
            done.result()

    def _tell(self, vm_id: str, kind: str, document: Document) -> None:
        with self._turns[(vm_id, kind)]:
            try:
                self._vault.open().put_document(vm_id, kind, document())
            except LeewardError as error:
                log.warning("the vault was not told", vm_id=vm_id, what=kind, error=str(error))
