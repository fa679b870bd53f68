"""Warm replicas: a VM's disks at its newest recovery point, kept on a recovery host as points come.

A failover to a replica needs neither the vault nor the time to copy anything out of it: its images become the VM's
disks. They are given back when the failover is taken back; what its guest has written to them is then found by its
hashes and mended, as everything that cannot be trusted is.

The vault may go at any moment, and that is just when a replica is needed. So what a new point changes is staged
first, in overlays beside the images, and merged when it is all there. At every instant either the images hold a
point, or the images and the overlays together do; the merging can be finished without the vault.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from leeward.domain.blocks import BLOCK_SIZE, Runs
from leeward.domain.errors import Damaged, NotFound, Refused, StoreFull
from leeward.domain.vm import FirmwareState
from leeward.hypervisors.libvirt.scratch import short_name
from leeward.hypervisors.passage import make_passable
from leeward.recovery import images
from leeward.recovery.durable import exclusive, load_json, save_json, sync_folder
from leeward.recovery.images import Image, ImageProcess
from leeward.recovery.localdisks import LocalDisks, Reached
from leeward.recovery.seeded import OnProgress, fill, ignore
from leeward.vault.facade import Vault
from leeward.vault.firmware import firmware_info, firmware_of
from leeward.vault.log import PointImage, Since

_RESERVE = 256 << 20


@dataclass(slots=True)
class ReplicaRecord:
    """tag: marks its images. point: that they hold, "" while they are not whole; time_ns, token, definition, firmware
    and sizes: of that point. staged: the overlays are whole, and `point` is what they hold together with the images.
    taken: tag of the copy that has its images now. epoch, moved_to: of the log as it was last seen: its newest epoch,
    and the host to which the VM had moved by then ("": it never did). seen: the log's last entry then, when there was
    no point after the one that it holds."""

    vm_id: str
    tag: str
    point: str = ""
    time_ns: int = 0
    token: str = ""
    definition: str = ""
    firmware: dict[str, object] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    staged: bool = False
    taken: str = ""
    epoch: int = 0
    moved_to: str = ""
    seen: int = 0

    def note(self, image: PointImage) -> None:
        self.point, self.time_ns = image.point.id, image.point.time_ns
        self.token, self.definition = image.tracking, image.definition
        self.firmware = dict(firmware_info(image.firmware))
        self.sizes = {name: disk.size for name, disk in image.disks.items()}

    @property
    def state(self) -> FirmwareState:
        return firmware_of(dict(self.firmware) or None)


def records_in(folder: Path) -> list[ReplicaRecord]:
    """Of all replicas whose records are in this folder; no vault is needed for that."""
    found = (_read(path.parent) for path in sorted(folder.glob("*/replica.json")))
    return [record for record in found if record is not None]


class Replicas:
    """Of one recovery host. folder: records, journals and sockets; keep its path short. storage: for the images, the
    same folder in which copies have theirs."""

    def __init__(self, folder: Path, storage: Path, vault: Vault) -> None:
        self._folder = folder
        self._storage = storage
        self._vault = vault

    def _place(self, vm_id: str) -> Path:
        return self._folder / short_name(vm_id)

    def record(self, vm_id: str) -> ReplicaRecord | None:
        return _read(self._place(vm_id))

    def records(self) -> list[ReplicaRecord]:
        return records_in(self._folder)

    def sizes(self) -> dict[str, int]:
        """Tag → bytes that its images take on this host; also of copies, which have replicas' images."""
        found: dict[str, int] = {}
        if self._storage.is_dir():
            for path in self._storage.iterdir():
                with suppress(FileNotFoundError):
                    tag = path.name.partition(".")[0]
                    found[tag] = found.get(tag, 0) + path.stat().st_blocks * 512
        return found

    def _save(self, record: ReplicaRecord) -> None:
        save_json(self._place(record.vm_id) / "replica.json", asdict(record))

    def _disks(self, record: ReplicaRecord) -> LocalDisks:
        return LocalDisks(self._place(record.vm_id), self._vault.log(record.vm_id))

    def _path(self, tag: str, disk: str) -> Path:
        return self._storage / f"{tag}.{disk}.qcow2"

    # --- following ----------------------------------------------------------------------------------

    def advance(self, vm_id: str, point_id: str = "latest", progress: OnProgress = ignore) -> Reached | None:
        """Bring the images to a point; None when they are at it, or a copy has them. Safe to repeat after a kill.

        progress: what it raises ends the advance, and leaves the point before where there was one. Raises StoreFull
        when there is no room for them, and whatever the vault or the images raise.
        """
        with exclusive(self._place(vm_id)):
            record = self.record(vm_id)
            if record is None:
                record = ReplicaRecord(vm_id, f"r{uuid.uuid4().hex[:9]}")
                self._save(record)
            if record.taken:
                return None
            log = self._vault.log(vm_id)
            if point_id == "latest" and record.point:
                if record.seen and not log.grown(record.seen):
                    return None
                news = log.since(record.point, record.time_ns, record.definition, record.state)
                if news is not None:
                    return self._follow_news(record, news, self._guarded(progress))
            self._see_log(record, log.epoch())
            point = log.point(point_id)
            if (point.id, point.time_ns) == (record.point, record.time_ns):
                return None
            if point_id == "latest" and record.point and point.seq < int(record.point):
                # The vault has lost what is held here, or cannot read it: it may be the last good copy of that.
                return None
            return self._follow(record, point.id, self._guarded(progress))

    def _follow_news(self, record: ReplicaRecord, news: Since, progress: OnProgress) -> Reached | None:
        """By what came after the point that it holds. Without a pin: what came a moment ago no policy prunes."""
        self._see_log(record, news.epoch)
        image = news.image
        if image is None:
            record.seen = news.tail
            self._save(record)
            return None
        with image:
            sizes = {name: disk.size for name, disk in image.disks.items()}
            if sizes != record.sizes:
                return self._follow(record, image.point.id, progress)
            self._merge(record)
            written = self._stage(record, image, news.suspect, progress)
            record.seen = news.tail
            self._staged(record, image)
            return Reached(image.point.id, image.fetched, written)

    def _see_log(self, record: ReplicaRecord, epoch: int) -> None:
        """Who reigns, for a failover that cannot ask the vault."""
        if epoch == record.epoch:
            return
        move = self._vault.log(record.vm_id).last_move()
        record.epoch, record.moved_to = epoch, str(move.info.get("host", "")) if move else ""
        self._save(record)

    def _guarded(self, progress: OnProgress) -> OnProgress:
        """What is staged takes room as well, and others have their disks in the same folder: they must never run full
        because of a replica."""

        def told(done: int, total: int, fetched: int) -> None:
            free = shutil.disk_usage(self._storage).free
            if free < _RESERVE // 2:
                raise _full(self._storage, f"{free:,} bytes are free, and the replica leaves at least that to others")
            progress(done, total, fetched)

        return told

    def _follow(self, record: ReplicaRecord, point_id: str, progress: OnProgress) -> Reached:
        self._merge(record)
        record.seen = 0
        with (
            self._vault.holding(record.vm_id, point_id, f"replica {record.tag}") as held,
            self._vault.log(record.vm_id).open_point(held) as image,
        ):
            make_passable(self._storage)
            paths = {name: self._path(record.tag, name) for name in image.disks}
            _require_room(image, paths)
            sizes = {name: disk.size for name, disk in image.disks.items()}
            if record.point and record.sizes == sizes:
                written = self._stage(record, image, self._suspect(record, image), progress)
                self._staged(record, image)
                return Reached(point_id, image.fetched, written)
            # The first time, or disks came, went or changed their size: until all is done there is no whole point.
            record.point = ""
            self._save(record)
            reached = self._disks(record).reach(image, paths, progress=progress)
            record.note(image)
        self._save(record)
        return reached

    def _staged(self, record: ReplicaRecord, image: PointImage) -> None:
        record.note(image)
        record.staged = True
        self._save(record)
        self._merge(record)

    def _stage(
        self,
        record: ReplicaRecord,
        image: PointImage,
        suspect: Mapping[str, Runs] | None,
        progress: OnProgress,
    ) -> int:
        """What the point changes, into overlays. suspect: blocks that may differ, None: any. → the bytes written."""
        written = 0
        for name, size in record.sizes.items():
            only = suspect[name] if suspect is not None else None
            overlay = self._overlay(record, name)
            overlay.unlink(missing_ok=True)
            if only is not None and not len(only):
                continue
            images.create_overlay(overlay, self._path(record.tag, name), size)
            with ImageProcess(Image(overlay), self._place(record.vm_id) / f"{name}.o", writable=True) as target:
                written += fill(image, name, target, only=only, progress=progress)
        return written

    def _suspect(self, record: ReplicaRecord, image: PointImage) -> dict[str, Runs] | None:
        """Blocks that may differ between the images and the point; None: any of them."""
        try:
            with self._vault.log(record.vm_id).open_point(record.point, cache_bytes=0) as held:
                return image.differs_from(held) if held.point.time_ns == record.time_ns else None
        except (NotFound, Damaged):
            return None  # pruned since, or the log has gone on without it

    def _merge(self, record: ReplicaRecord) -> None:
        """Bring what is staged into the images, without the vault. Repeat after a kill."""
        for name in record.sizes:
            overlay = self._overlay(record, name)
            if record.staged and overlay.exists():
                images.merge(overlay, self._path(record.tag, name))
            overlay.unlink(missing_ok=True)
        if record.staged:
            self._disks(record).hold(record.point)
            record.staged = False
            self._save(record)

    def _overlay(self, record: ReplicaRecord, disk: str) -> Path:
        return self._storage / f"{record.tag}.{disk}.next"

    # --- being used ---------------------------------------------------------------------------------

    def whole(self, vm_id: str) -> ReplicaRecord | None:
        """The record of a replica that could be failed over to now; None when there is none. Needs no vault."""
        record = self.record(vm_id)
        return record if record is not None and record.point and not record.taken else None

    def take(self, vm_id: str, tag: str, point_id: str = "") -> dict[str, str]:
        """Give the images to the copy of this tag; returns disk → path. Idempotent for the tag. point_id: that they
        must hold, if it matters.

        Raises Refused when they are not whole, hold another point, or another copy has them.
        """
        with exclusive(self._place(vm_id)):
            record = self.record(vm_id)
            if record is None or not record.point:
                raise Refused("there is no whole replica of it here", subject=vm_id)
            if record.taken not in ("", tag):
                raise Refused("another copy has the replica's images", subject=vm_id, hint="Discard it first")
            if not record.taken:
                if point_id not in ("", record.point):
                    raise Refused(f"the replica holds point {record.point}, not {point_id}", subject=vm_id)
                self._merge(record)
                self._disks(record).distrust()  # whatever happens from now on
                record.taken = tag
                self._save(record)
            self._move(record.tag, tag, record.sizes, strict=True)
            return {name: str(self._path(tag, name)) for name in record.sizes}

    def give_back(self, vm_id: str, tag: str) -> None:
        """Take the images back from a copy that is gone: they are looked through at the next advance. Idempotent."""
        with exclusive(self._place(vm_id)):
            record = self.record(vm_id)
            if record is None or record.taken != tag:
                return
            self._move(tag, record.tag, record.sizes, strict=False)
            for name in record.sizes:
                if self._path(record.tag, name).exists():
                    images.drop_bitmaps(self._path(record.tag, name))
            record.taken, record.point, record.seen = "", "", 0
            self._save(record)

    def _move(self, old: str, new: str, disks: Mapping[str, int], *, strict: bool) -> None:
        """Those that were moved before are there already. strict: all must be there; else what is gone is made anew
        at the next advance."""
        for name in disks:
            source, target = self._path(old, name), self._path(new, name)
            if source.exists():
                source.replace(target)
            elif strict and not target.exists():
                raise NotFound("an image of the replica is gone", subject=str(target))
        sync_folder(self._storage)

    def remove(self, vm_id: str) -> None:
        """Delete a replica. Idempotent. Raises Refused while a copy has its images."""
        with exclusive(self._place(vm_id)):
            record = self.record(vm_id)
            if record is None:
                return
            if record.taken:
                raise Refused("a copy has the replica's images", subject=vm_id, hint="Discard it first")
            record.staged = False
            self._merge(record)
            self._disks(record).remove()
            shutil.rmtree(self._place(vm_id), ignore_errors=True)


def _require_room(image: PointImage, paths: Mapping[str, Path]) -> None:
    needed = _RESERVE
    for name, path in paths.items():
        data = image.disks[name].runs().data_blocks * BLOCK_SIZE
        taken = next((p.stat().st_blocks * 512 for p in (path, _part(path)) if p.exists()), 0)
        needed += max(0, data - taken)
    folder = next(iter(paths.values())).parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise _full(folder, f"the replica needs up to {needed:,} bytes more, and {free:,} are free")


def _full(folder: Path, why: str) -> StoreFull:
    return StoreFull(
        why, subject=str(folder), hint="Make room on the recovery host's storage, or give the replica up"
    )


def _read(place: Path) -> ReplicaRecord | None:
    raw = load_json(place / "replica.json")
    return ReplicaRecord(**raw) if raw else None


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
