"""Making, starting and removing the guests of one site."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import libvirt

from leeward.domain.errors import BadInput, HypervisorError, NotFound, Refused
from leeward.lab import kvm, site, tools
from leeward.lab.domains import UEFI_STORE, Shape, definition, mac_address
from leeward.lab.guest import debian, tiny, variables
from leeward.lab.guest.assembly import KERNEL_ARGUMENTS
from leeward.lab.guest.layout import INTERVAL_MS, Settings, write_settings
from leeward.lab.places import Places, site_plan

_FIRST_ADDRESS, _LAST_ADDRESS = 10, 250


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest as it was defined. disks: target (vda, vdb) → image file."""

    name: str
    site: str
    uuid: str
    ip: str
    mac: str
    kind: str
    disks: dict[str, str]

    def disk(self, target: str = "vda") -> Path:
        return Path(self.disks[target])


@dataclass(frozen=True, slots=True)
class Wish:
    """What a guest shall be.

    kind: tiny, or debian (with systemd; give it disks of 1024 or so and a memory of 512).
    disks: sizes in MiB, the first the boot disk, the second a data disk; format: qcow2 or raw.
    ip: "" picks a free one of the site's LAN; bridge: of the site's host.
    uefi: it boots by an entry in its UEFI variable store, and by nothing else. tpm: with an emulated TPM.
    screen: it has one to look at, which tells its name, address and records.
    """

    kind: str = "tiny"
    disks: Sequence[int] = (64, 32)
    format: str = "qcow2"
    ip: str = ""
    interval_ms: int = INTERVAL_MS
    agent: bool = True
    acpi: bool = True
    memory_mib: int = 192
    bridge: str = "br0"
    uefi: bool = False
    tpm: bool = False
    screen: bool = True


class Guests:
    """The guests of one site."""

    def __init__(self, places: Places, site_name: str) -> None:
        self._places = places
        self._plan = site_plan(site_name)
        self._folder = places.images(site_name)

    def define(self, name: str, wish: Wish) -> Guest:
        """Make the disks and define the domain (not started); a guest of that name is returned as it is."""
        with self._connection() as connection:
            if (known := self.known().get(name)) and _domain(connection, known.name):
                return known
            self._remove_files(name)
            guest = self._make(name, wish)
            disks = {target: (Path(image), wish.format) for target, image in guest.disks.items()}
            if wish.uefi:
                self._make_store(name)
            shape = Shape(
                memory_mib=wish.memory_mib,
                kvm=kvm.usable(self._places.cache),
                bridge=wish.bridge,
                uefi=wish.uefi,
                tpm=wish.tpm,
                screen=wish.screen,
            )
            connection.defineXML(definition(name, guest.uuid, guest.mac, disks, shape))
            return guest

    def start(self, name: str) -> None:
        """Nothing when it runs already."""
        with self._connection() as connection:
            domain = _wanted(connection, name)
            if not domain.isActive():
                domain.create()

    def destroy(self, name: str) -> None:
        """Force the guest off, forget it and delete its disks; nothing when there is none."""
        with self._connection() as connection:
            if domain := _domain(connection, name):
                if domain.isActive():
                    domain.destroy()
                domain.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                )
        self._remove_files(name)

    def known(self) -> dict[str, Guest]:
        """The guests that the lab made here, by name."""
        found = {}
        for file in sorted(self._folder.glob("*.json")):
            guest = Guest(**json.loads(file.read_text()))
            found[guest.name] = guest
        return found

    def running(self) -> set[str]:
        with self._connection() as connection:
            return {domain.name() for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)}

    @contextmanager
    def _connection(self) -> Iterator[libvirt.virConnect]:
        with site.connect(self._places.uri(self._plan.name)) as connection:
            try:
                yield connection
            except libvirt.libvirtError as error:
                raise HypervisorError(str(error), subject=self._plan.name) from error

    def _make(self, name: str, wish: Wish) -> Guest:
        ip = wish.ip or self._free_address()
        settings = Settings(
            name=name,
            address=f"{ip}/24",
            gateway=self._plan.host_address,
            interval_ms=wish.interval_ms,
            agent=wish.agent,
            acpi=wish.acpi,
        )
        settings.block()  # refuses a bad name before anything is made
        disks = {
            f"vd{letter}": str(self._folder / f"{name}-vd{letter}.{wish.format}")
            for letter, _ in zip("ab", wish.disks, strict=False)
        }
        # The same place gives the same identity: a definition that a killed client still had under way is then
        # replaced by ours instead of colliding with it.
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"leeward-lab:{self._folder}/{name}"))
        guest = Guest(name, self._plan.name, identity, ip, mac_address(str(self._folder), name), wish.kind, disks)
        sources = [self._boot_image(wish), *(tiny.second_disk(self._places.cache, size) for size in wish.disks[1:])]
        (self._folder / f"{name}.json").write_text(json.dumps(asdict(guest)))
        for source, target in zip(sources, disks.values(), strict=True):
            self._copy(source, Path(target), wish.format, settings if source is sources[0] else None)
        return guest

    def _make_store(self, name: str) -> None:
        """A variable store with a boot entry, where the daemon would otherwise put an empty one."""
        if not UEFI_STORE.exists():
            raise NotFound("OVMF is not installed", hint="Install the package ovmf")
        folder = self._places.daemon_state(self._plan.name) / "qemu/nvram"
        folder.mkdir(parents=True, exist_ok=True)
        arguments = f"initrd=\\initrd {KERNEL_ARGUMENTS}"
        store = variables.bootable(UEFI_STORE.read_bytes(), "\\vmlinuz", arguments)
        (folder / f"{name}_VARS.fd").write_bytes(store)

    def _boot_image(self, wish: Wish) -> Path:
        if not 1 <= len(wish.disks) <= 2:
            raise BadInput("a guest has one disk or two", subject=str(list(wish.disks)))
        if wish.kind == "tiny":
            return tiny.image(self._places.cache, wish.disks[0])
        if wish.kind == "debian":
            return debian.image(self._places.cache, wish.disks[0])
        raise BadInput("no such kind of guest", subject=wish.kind, hint="Kinds: tiny, debian")

    def _copy(self, source: Path, target: Path, form: str, settings: Settings | None) -> None:
        raw = target.with_suffix(".making")
        tools.run(["cp", "--sparse=always", "--reflink=auto", source, raw])
        if settings:
            write_settings(raw, settings)
        if form == "raw":
            raw.rename(target)
        else:
            tools.run(["qemu-img", "convert", "-f", "raw", "-O", form, raw, target])
            raw.unlink()

    def _free_address(self) -> str:
        taken = {guest.ip for guest in self.known().values()}
        for number in range(_FIRST_ADDRESS, _LAST_ADDRESS):
            if (ip := f"{self._plan.lan}.{number}") not in taken:
                return ip
        raise Refused("all addresses of the LAN are taken", subject=self._plan.name, hint="Destroy a guest")

    def _remove_files(self, name: str) -> None:
        known = self.known().get(name)
        for file in [Path(image) for image in known.disks.values()] if known else []:
            file.unlink(missing_ok=True)
            file.with_suffix(".making").unlink(missing_ok=True)
        (self._folder / f"{name}.json").unlink(missing_ok=True)


def _domain(connection: libvirt.virConnect, name: str) -> libvirt.virDomain | None:
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _wanted(connection: libvirt.virConnect, name: str) -> libvirt.virDomain:
    if domain := _domain(connection, name):
        return domain
    raise NotFound("the lab has no such guest", subject=name)
