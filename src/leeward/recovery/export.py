"""The export process: serves one recovery point over NBD, beside QEMU, on its own.

`python -m leeward.recovery.export JOB.json`. It outlives the daemon that started it: a recovered VM must not depend
on anything else of ours. SIGUSR1 says that the boot is over (the record of its reads is then stored in the vault);
SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leeward.domain.errors import LeewardError, Unavailable
from leeward.logs import log
from leeward.ports.objects import ObjectStore
from leeward.recovery.boot_record import DOCUMENT, BootRecorder, read_ahead
from leeward.recovery.nbd_server import NbdServer
from leeward.state.vault_place import PlaceFile
from leeward.vault.crypto import VaultKeys
from leeward.vault.facade import Vault
from leeward.vault.log import PointImage
from leeward.vault.stores.delay import DelayedStore
from leeward.vault.stores.opening import open_store

# A boot that takes longer than this is recorded up to here.
_RECORD_S = 300.0


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What an export process must know. socket: where it serves, for this user and group alone; record: note and use
    the reads of the boot.

    delay_ms: added to every read of the store (benches). cache_bytes: decoded data kept in memory. state: the folder
    whose file says where the vault is and with which credentials (see `PlaceFile`), which may change while a VM runs
    from it; "": vault_url alone does.
    """

    vault_url: str
    key_file: str
    vm_id: str
    point_id: str
    socket: str
    uid: int = -1
    gid: int = -1
    record: bool = True
    cache_bytes: int = 256 << 20
    delay_ms: float = 0.0
    state: str = ""

    def save(self, path: Path) -> None:
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self), indent=1))
        draft.replace(path)

    @staticmethod
    def load(path: Path) -> ExportJob:
        return ExportJob(**json.loads(path.read_text()))


def open_job(job: ExportJob) -> tuple[Vault, PointImage]:
    """Raises LeewardError."""
    keys = VaultKeys.from_bytes(Path(job.key_file).read_bytes())
    store: ObjectStore = (
        PlaceFile(Path(job.state)).following(None, keys.vault_id)
        if job.state
        else open_store(job.vault_url, create=False)
    )
    if job.delay_ms:
        store = DelayedStore(store, job.delay_ms / 1000)
    vault = Vault.open(store, keys=keys)
    return vault, vault.log(job.vm_id).open_point(job.point_id, cache_bytes=job.cache_bytes)


def patiently(action: Callable[[], Any]) -> Any:
    """Repeat while the vault is away: whoever started us decides how long that makes sense."""
    while True:
        try:
            return action()
        except Unavailable as error:
            log.warning("the vault is away; waiting", error=str(error))
            time.sleep(1.0)


async def serve(job: ExportJob, vault: Vault, image: PointImage) -> None:
    stop, booted = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, booted.set)
    recorder = BootRecorder()
    ahead = None
    if job.record:
        image.on_read = recorder.note
        known = await loop.run_in_executor(None, _known_boot, vault, job.vm_id)
        if known:
            # Three quarters: what was fetched ahead must not push itself out before the guest asks for it.
            ahead = read_ahead(known, image.disks, job.cache_bytes * 3 // 4)
    server = asyncio.create_task(NbdServer(image.disks).serve_at(Path(job.socket), stop, job.uid, job.gid))
    if job.record:
        await _wait_any(_RECORD_S, booted, stop)
        recorder.done = True
        image.on_read = None
        if booted.is_set():
            await loop.run_in_executor(None, _store_boot, vault, job.vm_id, recorder)
    await server
    if ahead:
        ahead.shutdown(wait=False, cancel_futures=True)


async def _wait_any(seconds: float, *events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _known_boot(vault: Vault, vm_id: str) -> dict[str, Any] | None:
    try:
        return vault.document(vm_id, DOCUMENT)
    except LeewardError as error:
        log.warning("no read-ahead: the boot record cannot be read", error=str(error))
        return None


def _store_boot(vault: Vault, vm_id: str, recorder: BootRecorder) -> None:
    document = recorder.document()
    if not document["runs"]:
        return
    try:
        vault.put_document(vm_id, DOCUMENT, document)
    except LeewardError as error:
        log.warning("the boot record was not stored", error=str(error))


def main() -> int:
    log.to_json(sys.stderr, verbose=True)
    job = ExportJob.load(Path(sys.argv[1]))
    try:
        vault, image = patiently(lambda: open_job(job))
    except LeewardError as error:
        print(json.dumps(error.as_dict()), file=sys.stderr, flush=True)
        return error.exit_code
    asyncio.run(serve(job, vault, image))
    # Threads may hang in reads of an absent vault; nothing of theirs is worth waiting for.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
