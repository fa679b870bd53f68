"""What of the environment gets into a store, and what must not.

obstore looks there besides whatever it is told, for more than it documents: a session token, a server, a way to
encrypt that stands there for something else would get into the requests of somebody who has given credentials.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from leeward.domain.errors import BadInput

if TYPE_CHECKING:  # obstore has these in its stubs only
    from obstore.store import AzureConfig, S3Config

# What obstore does anyway, said so that the environment cannot say otherwise.
S3_ALONE: S3Config = {
    "virtual_hosted_style_request": False,
    "conditional_put": "etag",
    "copy_if_not_exists": "multipart",
    "request_payer": False,
    "unsigned_payload": False,
    "skip_signature": False,
    "s3_express": False,
    "disable_tagging": False,
}
AZURE_ALONE: AzureConfig = {
    "authority_host": "https://login.microsoftonline.com",
    "use_emulator": False,
    "use_fabric_endpoint": False,
    "use_azure_cli": False,
    "skip_signature": False,
    "disable_tagging": False,
}
# Nothing that obstore can be told takes these back.
ENCRYPTION_OF_S3, ENCRYPTION_OF_AZURE = "AWS_SERVER_SIDE_ENCRYPTION", "AZURE_STORAGE_ENCRYPTION_KEY"
S3_ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def environment(*names: str) -> str:
    """The first of these variables that has a value; "" when none has."""
    return next((value for name in names if (value := os.environ.get(name, ""))), "")


def nothing(*names: str) -> str:
    """What `environment` says to who has given credentials."""
    return ""


def must_stay_out(name: str, url: str) -> None:
    """Objects that were encrypted with what stands in one process's environment could not be read by the others.
    Raises BadInput."""
    if any(found.upper() == name for found in os.environ):
        hint = f"Take {name} out of the environment of this process"
        raise BadInput("the environment would mix its own encryption into the vault", subject=url, hint=hint)
