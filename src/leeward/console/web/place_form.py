"""The vault's place as a form: filled in, read, and what is wrong beside the field that it is of. Pure."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from leeward.console.web.forms import Form
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.domain.errors import LeewardError, StoreUnavailable
from leeward.vault.place import Place
from leeward.vault.stores.opening import local_folder

KINDS = ("folder", "s3", "azure")
# How one signs in to Azure → fields that are needed for it.
SIGNS = {
    "key": ("account_key",),
    "sas": ("sas_token",),
    "application": ("tenant_id", "client_id", "client_secret"),
}
_S3 = ("endpoint", "region", "access_key_id", "secret_access_key")
SECRET_FIELDS = ("s3_secret_access_key", "azure_account_key", "azure_sas_token", "azure_client_secret")
_FIELDS = (
    "kind",
    "folder",
    "s3_bucket",
    "s3_prefix",
    *(f"s3_{name}" for name in _S3),
    "s3_ca",
    "s3_allow_http",
    "azure_account",
    "azure_container",
    "azure_prefix",
    "azure_endpoint",
    "azure_sign",
    *(f"azure_{name}" for names in SIGNS.values() for name in names),
    "azure_ca",
)


@dataclass(frozen=True, slots=True)
class Read:
    """url, options: as `place_of` takes them. wrong: by field."""

    url: str
    options: Mapping[str, str | bool] = field(repr=False)
    wrong: dict[str, Phrase]


def first(url: str) -> dict[str, str]:
    """A form that nobody has filled in. url: of the place that there is without it."""
    folder = local_folder(url)
    values = dict.fromkeys(_FIELDS, "")
    return values | {"kind": "folder", "folder": str(folder) if folder else "", "azure_sign": "key"}


def filled(place: Place) -> dict[str, str]:
    """Of a place; its secrets are never among them."""
    values = first(place.url) | {"kind": place.kind}
    if place.kind == "folder":
        return values
    parts = urlsplit(place.url)
    name = "bucket" if place.kind == "s3" else "container"
    values |= {f"{place.kind}_{name}": parts.netloc, f"{place.kind}_prefix": unquote(parts.path.strip("/"))}
    values |= {f"{place.kind}_{one}": "1" if value is True else str(value) for one, value in place.plain.items()}
    if place.kind == "azure":
        values["azure_sign"] = next((sign for sign, names in SIGNS.items() if names[-1] in place.options), "key")
    return values


def typed(form: Form) -> dict[str, str]:
    """What the reader typed, without the secrets."""
    return {name: "" if name in SECRET_FIELDS else form[name] for name in _FIELDS}


def secrets_of(form: Form, kept: Mapping[str, str]) -> dict[str, str]:
    """Those that were typed now, or before."""
    return {name: form[name].strip() or kept.get(name, "") for name in SECRET_FIELDS}


def read(form: Form, secrets: Mapping[str, str]) -> Read:
    values = {**{name: form[name].strip() for name in _FIELDS}, **secrets}
    wrong: dict[str, Phrase] = {}
    kind = values["kind"]
    if kind == "folder":
        _need(values, wrong, "folder")
        if values["folder"] and not values["folder"].startswith("/"):
            wrong["folder"] = phrase(N_("Write the whole path, like /srv/vault."))
        return Read(f"file://{quote(values['folder'])}", {}, wrong)
    if kind == "s3":
        return _read_s3(values, wrong)
    if kind == "azure":
        return _read_azure(values, wrong)
    return Read("", {}, {"kind": phrase(N_("Choose one."))})


def _read_s3(values: Mapping[str, str], wrong: dict[str, Phrase]) -> Read:
    _need(values, wrong, "s3_bucket", "s3_access_key_id", "s3_secret_access_key")
    _check_server(values, wrong, "s3_endpoint", "s3_ca")
    options: dict[str, str | bool] = {name: values[f"s3_{name}"] for name in (*_S3, "ca")}
    options["allow_http"] = bool(values["s3_allow_http"])
    return Read(_url("s3", values["s3_bucket"], values["s3_prefix"]), options, wrong)


def _read_azure(values: Mapping[str, str], wrong: dict[str, Phrase]) -> Read:
    _need(values, wrong, "azure_account", "azure_container")
    sign = values["azure_sign"]
    if sign not in SIGNS:
        wrong["azure_sign"] = phrase(N_("Choose one."))
    names = SIGNS.get(sign, ())
    values = {**values, "azure_sas_token": values["azure_sas_token"].lstrip("?")}  # as portals copy it
    _need(values, wrong, *(f"azure_{name}" for name in names))
    _check_server(values, wrong, "azure_endpoint", "azure_ca")
    options: dict[str, str | bool] = {name: values[f"azure_{name}"] for name in ("account", "endpoint", "ca", *names)}
    return Read(_url("azure", values["azure_container"], values["azure_prefix"]), options, wrong)


def _url(scheme: str, bucket: str, prefix: str) -> str:
    prefix = prefix.strip("/")
    return f"{scheme}://{bucket}/{prefix}" if prefix else f"{scheme}://{bucket}"


def _need(values: Mapping[str, str], wrong: dict[str, Phrase], *names: str) -> None:
    for name in names:
        if not values[name]:
            wrong[name] = phrase(N_("Fill this in."))


def _check_server(values: Mapping[str, str], wrong: dict[str, Phrase], endpoint: str, ca: str) -> None:
    if values[endpoint]:
        try:
            parts = urlsplit(values[endpoint])
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
            _ = parts.port  # raises ValueError for one that is none
        except ValueError:
            good = False
        if not good:
            wrong[endpoint] = phrase(N_("Write an address like https://s3.example.com:9000."))
    if values[ca]:
        try:
            ssl.create_default_context(cadata=values[ca])
        except (ssl.SSLError, ValueError, TypeError):  # TypeError: for what is not ASCII
            wrong[ca] = phrase(N_("This is no certificate in PEM form."))


def field_of(error: LeewardError, form: Form) -> str:
    """The field beside which to say what a place did not take; "" for none of them."""
    kind = form["kind"]
    if kind == "folder":
        return "folder"
    names = SIGNS.get(form["azure_sign"], ("account_key",))
    s3 = kind == "s3"
    proof = "s3_secret_access_key" if s3 else f"azure_{names[-1]}"
    bucket = "s3_bucket" if s3 else "azure_container"
    server = f"{kind}_endpoint" if form[f"{kind}_endpoint"] or s3 else "azure_account"
    message = error.message
    if "credentials" in message:
        return proof
    if "bucket or container" in message:
        return bucket
    if "endpoint" in message or isinstance(error, StoreUnavailable):
        return server
    return f"{kind}_prefix" if "a-z" in error.hint else ""
