"""The place of a vault: its address, how to get there with which credentials, and whether it is fit to hold one."""

from __future__ import annotations

import re
import secrets
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from leeward.domain.errors import BadInput, NotFound, ObjectExists, ObjectNotFound, ObjectRetained, Refused
from leeward.ports.objects import ObjectStore
from leeward.vault import keyspace
from leeward.vault.facade import read_keyring
from leeward.vault.stores.opening import local_folder, open_store, without_login
from leeward.vault.stores.providers import AzureOptions, S3Options

# Options that nobody may see.
SECRETS = ("secret_access_key", "session_token", "account_key", "sas_token", "client_secret")
# Who asks, and what proves it; the rest says where and how.
CREDENTIALS = ("access_key_id", "tenant_id", "client_id", *SECRETS)
_KINDS: dict[str, type[S3Options] | type[AzureOptions]] = {"s3": S3Options, "azure": AzureOptions, "az": AzureOptions}
# Of this machine alone, or no matter of where the vault is.
_NOT_KEPT = {"ca_file", "instance_credentials", "read_timeout_s", "put_timeout_s"}
_LONGEST = 100_000
_ENDPOINT = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?")
# What goes into a request as a header or a part of the address has to be ASCII; these only sign.
_ANY_LETTERS = ("secret_access_key", "client_secret")


@dataclass(frozen=True, slots=True)
class Place:
    """url: see `open_store`. options: what it takes besides, texts and truths; they hold credentials. revision: grows
    with each change, 0 for what was never chosen."""

    url: str
    options: Mapping[str, str | bool] = field(default_factory=dict, repr=False)
    revision: int = 0

    @property
    def kind(self) -> str:
        """folder, s3, azure or other."""
        if local_folder(self.url) is not None:
            return "folder"
        scheme = self.url.partition(":")[0]
        return {"s3": "s3", "azure": "azure", "az": "azure"}.get(scheme, "other")

    @property
    def plain(self) -> dict[str, str | bool]:
        """The options that anybody may see who looks after the vault."""
        return {name: value for name, value in self.options.items() if name not in SECRETS}

    @property
    def secret(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.options.items() if name in SECRETS}

    @property
    def where(self) -> tuple[str, Mapping[str, str | bool]]:
        """Which place it is, whoever asks there."""
        return self.url, {name: value for name, value in self.options.items() if name not in (*CREDENTIALS, "ca")}

    def open(self, *, create: bool = True, retry_s: float | None = None) -> ObjectStore:
        """Raises as `open_store`."""
        return open_store(self.url, create=create, retry_s=retry_s, **self.options)


def place_of(url: str, options: Mapping[str, Any], revision: int = 0) -> Place:
    """Of what somebody gave; empty options are left out. Raises BadInput (subject: the option, or the address)."""
    _must_be_text(url)
    scheme = url.partition(":")[0] if ":" in url else ""
    kind = _KINDS.get(scheme)
    known = {one.name: one.type for one in fields(kind) if one.name not in _NOT_KEPT} if kind else {}
    kept: dict[str, str | bool] = {}
    for name, value in options.items():
        if value in ("", None, False):
            continue
        if name not in known:
            hint = f"Known: {', '.join(sorted(known))}" if known else "A folder takes none"
            raise BadInput("this place has no such option", subject=str(name)[:80], hint=hint)
        wanted = bool if known[name] in (bool, "bool") else str
        if not isinstance(value, wanted) or len(str(value)) > _LONGEST:
            raise BadInput("this cannot be used", subject=name)
        _must_be_fit(name, value)
        kept[name] = value
    if local_folder(url) is None and kind is None:
        # Says what is wrong with it; memory:// is no place that outlives us.
        open_store(url, create=False)
        raise BadInput("a vault cannot be kept there", subject=url)
    place = Place(url, kept, revision)
    if kind is not None:
        place.open()  # contacts nobody, and looks at everything
    return place


def _must_be_text(url: str) -> None:
    """Raises BadInput for what would be an error of the machine and not of whoever typed it."""
    try:
        folder = local_folder(url)
    except ValueError:
        raise BadInput("this is not the address of a store", subject=without_login(url)) from None
    if not (url + str(folder or "")).isprintable():
        raise BadInput("an address cannot have such characters", subject=ascii(without_login(url)))


def _must_be_fit(name: str, value: str | bool) -> None:
    """obstore panics over a line break in a header, and over an endpoint that is no address. Raises BadInput."""
    if not isinstance(value, str):
        return
    if name == "ca":
        try:
            ssl.create_default_context(cadata=value)
        except (ssl.SSLError, ValueError, TypeError):  # TypeError: for what is not ASCII
            raise BadInput("this is no certificate in PEM form", subject=name) from None
    elif not value.isprintable() or not (value.isascii() or name in _ANY_LETTERS):
        raise BadInput("this has characters that cannot be", subject=name)
    elif name == "endpoint":
        _check_endpoint(value)


def _check_endpoint(address: str) -> None:
    """Whoever may see the vault sees it, so a login or a signature must not be in it. Raises BadInput."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises ValueError for one that is none
    except ValueError:
        raise BadInput("the endpoint is not an http(s) address", subject="endpoint") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        hint = "Give the server's address alone, and credentials as such"
        raise BadInput("the endpoint must have no login, ? or # in it", subject="endpoint", hint=hint)
    if not _ENDPOINT.fullmatch(address):
        raise BadInput("the endpoint is not an http(s) address", subject="endpoint", hint="Like https://host:9000")


def with_credentials(place: Place, given: Mapping[str, Any]) -> Place:
    """The same place with other credentials in place of all it had. Raises BadInput."""
    stray = sorted(set(given) - {*CREDENTIALS, "ca"})
    if stray:
        raise BadInput("this is none of the credentials", subject=stray[0])
    where = {name: value for name, value in place.options.items() if name not in CREDENTIALS and name not in given}
    return place_of(place.url, {**where, **given}, place.revision)


def must_hold(place: Place, found: UUID | None, in_use: UUID | None) -> None:
    """found: the vault to which new credentials of a place lead. in_use: the one that this machine works with, None
    while there is none. Raises Refused."""
    if in_use is not None and found != in_use:
        raise Refused("these credentials lead to a place without the vault that is in use", subject=place.url)


def try_place(place: Place) -> UUID | None:
    """Create, read, list and delete an object there, and see that none is ever overwritten. Returns the id of the
    vault that is there, None without one. Raises LeewardError: why the place is not fit. Leaves nothing behind,
    unless the store keeps what was put there."""
    folder, made = local_folder(place.url), _missing_folders(place)
    marked = folder is None or _exists(folder / ".tmp")
    try:
        store = place.open(create=True, retry_s=0)
        _probe(store)
        try:
            return read_keyring(store).vault_id
        except NotFound:
            return None
    finally:
        if folder is not None:
            _remove_empty(folder, ["probe"] if marked else ["probe", ".tmp"], made)


def vault_at(place: Place) -> UUID | None:
    """The id of the vault that is there, for who only reads. Raises StoreError."""
    try:
        return read_keyring(place.open(create=False, retry_s=0)).vault_id
    except NotFound:
        return None


def _probe(store: ObjectStore) -> None:
    key, content = keyspace.probe(secrets.token_hex(16)), secrets.token_bytes(64)
    store.put(key, [content])
    try:
        _must_give_back(store, key, content)
        _must_not_overwrite(store, key)
    except BaseException:
        with suppress(Exception):
            store.delete(key)
        raise
    try:
        store.delete(key)
    except ObjectRetained:
        return  # a bucket with object lock
    try:
        store.get(key)
    except ObjectNotFound:
        return
    raise Refused("the store does not delete what was put there", subject=store.url)


def _must_give_back(store: ObjectStore, key: str, content: bytes) -> None:
    if store.get(key) != content:
        raise Refused("the store gives back something else than was put there", subject=store.url)
    if [info.key for info in store.scan(key)] != [key]:
        raise Refused("the store does not list what was put there", subject=store.url)


def _must_not_overwrite(store: ObjectStore, key: str) -> None:
    """The vault's order rests on this: of two who create one object, one is told that it is there."""
    try:
        store.put(key, [b"another"])
    except ObjectExists:
        return
    raise Refused(
        "the store overwrites objects: it does not know conditional writes (If-None-Match), which a vault needs",
        subject=store.url,
        hint="Use a newer version of the server, or another one",
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def _missing_folders(place: Place) -> list[Path]:
    """Folders that a look would make, the innermost first."""
    folder = local_folder(place.url)
    if folder is None:
        return []
    missing = []
    for one in (folder, *folder.parents):
        if _exists(one):
            break
        missing.append(one)
    return missing


def _remove_empty(folder: Path, names: list[str], made: list[Path]) -> None:
    """What a look has made in a folder, and the folders that it made on the way; others may have come meanwhile."""
    for name in names:
        with suppress(OSError):
            (folder / name).rmdir()
    for folder in made:
        try:
            folder.rmdir()
        except OSError:
            return
