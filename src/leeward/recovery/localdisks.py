"""The disks of a VM as whole images on this host, brought to a recovery point and from there to later ones.

Each disk has a journal: the point that its image holds, and the points towards which it was being brought. Before the
first block is written that list is on disk, so that after a kill it is known which blocks may be anything: those that
differ between the point it held and any that it was on its way to. An image stands under its name from when it was
whole for the first time; until then it is a draft beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from leeward.domain.blocks import BLOCK_SIZE, Runs, block_count
from leeward.domain.errors import Damaged, HypervisorError, NotFound
from leeward.logs import log
from leeward.recovery import images
from leeward.recovery.durable import load_json, save_json, sync_folder
from leeward.recovery.images import Image, ImageProcess
from leeward.recovery.seeded import OnProgress, fill, ignore
from leeward.vault.log import PointImage, VmLog


@dataclass(slots=True)
class Journal:
    """Of one disk. path: of its image. point: that the image holds, "" when that is not known.

    towards: points to which it was being brought when it was last heard of; empty: it holds `point` and nothing else.
    """

    path: str
    point: str = ""
    towards: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reached:
    """fetched: bytes read from the vault for blocks; written: bytes written to the images."""

    point_id: str
    fetched: int
    written: int


class LocalDisks:
    """folder: for the journal and sockets; keep its path short. Not for several threads at once."""

    def __init__(self, folder: Path, log: VmLog) -> None:
        self._folder = folder
        self._log = log
        self._file = folder / "disks.json"
        self.journals = {name: Journal(**raw) for name, raw in (load_json(self._file) or {}).items()}

    def _save(self) -> None:
        save_json(self._file, {name: asdict(journal) for name, journal in self.journals.items()})

    @property
    def point(self) -> str:
        """The point that all images hold, "" when there is none."""
        points = {"" if journal.towards else journal.point for journal in self.journals.values()}
        return points.pop() if len(points) == 1 else ""

    def distrust(self) -> None:
        """Somebody else has written to the images: at the next time every block is looked at."""
        for journal in self.journals.values():
            journal.point, journal.towards = "", []
        self._save()

    def hold(self, point_id: str) -> None:
        """The images hold this point: somebody else has brought them there."""
        for journal in self.journals.values():
            journal.point, journal.towards = point_id, []
        self._save()

    def reach(
        self,
        image: PointImage,
        paths: Mapping[str, Path],
        seeds: Mapping[str, Image] | None = None,
        progress: OnProgress = ignore,
    ) -> Reached:
        """Make the images hold the point's disks. Repeat after a kill, with the same point or any other.

        paths: where the image of each disk is to stand; of a disk that has one already its place stays. seeds: old
        images that may still have some of it. Raises Damaged, StoreError, HypervisorError.
        """
        for gone in self.journals.keys() - image.disks.keys():
            self._remove(gone)
        sizes = {name: disk.runs().data_blocks * BLOCK_SIZE for name, disk in image.disks.items()}
        total, before, written = sum(sizes.values()), 0, 0
        with _Points(self._log) as points:
            for name, size in sizes.items():

                def told(done: int, of: int, fetched: int, before: int = before + size) -> None:
                    """Of blocks that need not be looked at nothing is heard: they are done."""
                    progress(max(0, before - of) + done, total, fetched)

                written += self._reach(image, name, paths[name], (seeds or {}).get(name), points, told)
                before += size
        return Reached(image.point.id, image.fetched, written)

    def _reach(
        self, image: PointImage, name: str, path: Path, seed: Image | None, points: _Points, told: OnProgress
    ) -> int:
        journal = self.journals.get(name)
        if journal is None:
            journal = self.journals[name] = Journal(str(path))
            self._save()
        if journal.towards and not images.sound(Path(journal.path)):
            Path(journal.path).unlink(missing_ok=True)  # a power cut can leave that
        if not Path(journal.path).exists():
            return self._make(image, name, journal, seed, told)
        if journal.point == image.point.id and not journal.towards:
            return 0
        return self._advance(image, name, journal, points, told)

    def _make(self, image: PointImage, name: str, journal: Journal, seed: Image | None, told: OnProgress) -> int:
        """The draft of a killed attempt, at whichever point, is gone on with."""
        path = Path(journal.path)
        draft = path.with_name(path.name + ".part")
        size = image.disks[name].size
        blank = not (draft.exists() and images.sound(draft))
        if blank:
            images.create(draft, size)
        images.resize(draft, size)
        with ExitStack() as stack:
            target = stack.enter_context(ImageProcess(Image(draft), self._socket(name, "w"), writable=True))
            source = self._open_seed(stack, name, seed)
            written = fill(image, name, target, seed=source, blank=blank, progress=told)
        draft.replace(path)
        sync_folder(path.parent)
        self._settle(journal, image.point.id)
        return written

    def _open_seed(self, stack: ExitStack, name: str, seed: Image | None) -> ImageProcess | None:
        if seed is None:
            return None
        try:
            return stack.enter_context(ImageProcess(seed, self._socket(name, "r")))
        except HypervisorError as error:
            log.warning("the old image cannot be opened: all comes from the vault", error=str(error))
            return None

    def _socket(self, name: str, mode: str) -> Path:
        return self._folder / f"{name}.{mode}"

    def _advance(self, image: PointImage, name: str, journal: Journal, points: _Points, told: OnProgress) -> int:
        path, size = Path(journal.path), image.disks[name].size
        before = images.virtual_size(path)
        only = _suspect(image, name, journal, points, before)
        written = 0
        if only is None or len(only) or before != size:
            if image.point.id not in journal.towards:
                journal.towards.append(image.point.id)
                self._save()
            images.resize(path, size)
            with ImageProcess(Image(path), self._socket(name, "w"), writable=True) as target:
                written = fill(image, name, target, only=only, progress=told)
        self._settle(journal, image.point.id)
        return written

    def _settle(self, journal: Journal, point_id: str) -> None:
        journal.point, journal.towards = point_id, []
        self._save()

    def _remove(self, name: str) -> None:
        path = Path(self.journals[name].path)
        path.unlink(missing_ok=True)
        path.with_name(path.name + ".part").unlink(missing_ok=True)
        del self.journals[name]
        self._save()

    def remove(self) -> None:
        """Delete all images and drafts. Idempotent."""
        for name in list(self.journals):
            self._remove(name)


class _Points:
    """Points of one log, each opened once. Raises NotFound for one that is not there any more."""

    def __init__(self, log: VmLog) -> None:
        self._log = log
        self._open: dict[str, PointImage] = {}

    def __enter__(self) -> _Points:
        return self

    def __exit__(self, *exc: object) -> None:
        for image in self._open.values():
            image.close()

    def get(self, point_id: str) -> PointImage:
        if point_id not in self._open:
            self._open[point_id] = self._log.open_point(point_id, cache_bytes=0)
        return self._open[point_id]


def _suspect(image: PointImage, name: str, journal: Journal, points: _Points, size: int) -> Runs | None:
    """Blocks of an image of `size` bytes that may not be as the point wants them; None: any of them."""
    if not journal.point:
        return None
    blocks = block_count(image.disks[name].size)
    try:
        held = points.get(journal.point)
        mask = image.differs_from(held)[name].mask(blocks)
        for other in journal.towards:
            there = points.get(other)
            if name in there.disks:
                mask |= there.differs_from(held)[name].mask(blocks)
    except (NotFound, Damaged):  # pruned, or the log has gone on without it
        log.info("a point that the image was at is gone: every block is compared", disk=name)
        return None
    if size < image.disks[name].size:
        mask[size // BLOCK_SIZE] = True  # what lay behind the old end becomes part of the disk
    return Runs.where(mask, ~image.disks[name].runs().mask(blocks))
