"""S3's object lock: a bucket that keeps each object for a time, whoever wants to delete it.

Such a bucket keeps versions. A plain deletion would only hide an object there: nothing is freed, and what was pruned
lies on unseen. So what is deleted is the version itself, and before its time the store refuses that: the object is
told to be kept until then, and stays visible. Whoever has our credentials can delete no more than we can; under
compliance mode nobody can.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from leeward.domain.errors import ObjectRetained, Refused, StoreError, StoreReadOnly
from leeward.vault.stores.cloudfaults import BAD_CREDENTIALS, CODE, bad_credentials
from leeward.vault.stores.s3_signed import Answer, SignedS3

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Mode(StrEnum):
    """GOVERNANCE: who has the right to may still delete. COMPLIANCE: nobody, not even the account's owner."""

    GOVERNANCE = "GOVERNANCE"
    COMPLIANCE = "COMPLIANCE"


@dataclass(frozen=True, slots=True)
class LockRule:
    """What a bucket with object lock does with each new object. mode None: nothing by itself."""

    mode: Mode | None
    days: int


class ObjectLock:
    """The lock of one bucket. Errors: StoreError and its children."""

    def __init__(self, s3: SignedS3, url: str) -> None:
        self._s3 = s3
        self._url = url
        self._known: tuple[LockRule | None] | None = None
        self._mutex = threading.Lock()

    def rule(self) -> LockRule | None:
        """None: the bucket has no object lock, or we may not know. Asked until an answer comes that will stay true:
        a lock cannot be taken away."""
        with self._mutex:
            if self._known is None:
                answer = self._s3.request("GET", "", {"object-lock": ""})
                if answer.status != 200 and not _final(answer):
                    return None
                self._known = (read_rule(answer.body.decode(errors="replace")) if answer.status == 200 else None,)
            return self._known[0]

    def set_rule(self, rule: LockRule) -> None:
        """From now on each new object is kept so long. Raises Refused when the bucket has no object lock."""
        if self.rule() is None:
            raise Refused(
                "the bucket has no object lock",
                subject=self._url,
                hint="It is given to a bucket when it is made: make one with object lock and versions",
            )
        answer = self._s3.request("PUT", "", {"object-lock": ""}, written_rule(rule).encode())
        if answer.status == 403:
            raise StoreReadOnly("our credentials do not allow to set the bucket's object lock", subject=self._url)
        if answer.status != 200:
            raise StoreError(f"the store refused: {_told(answer)}", subject=self._url)
        with self._mutex:
            self._known = (rule,)

    def delete(self, key: str) -> None:
        """Delete the object's version itself. Raises ObjectRetained while the store keeps it."""
        found = self._s3.request("HEAD", key, {})
        if found.status == 404:
            return
        if found.status == 403:
            raise StoreReadOnly("our credentials do not allow reading, so nothing is deleted", subject=key)
        until = _until(found)
        if found.headers.get("x-amz-object-lock-legal-hold", "").upper() == "ON":
            raise ObjectRetained("the store keeps it under a legal hold", subject=key)
        if until is not None and until > datetime.now(UTC):
            raise _retained(key, until)
        version = found.headers.get("x-amz-version-id", "")
        answer = self._s3.request("DELETE", key, {"versionId": version} if version else {})
        if _told(answer) in BAD_CREDENTIALS:
            raise bad_credentials(key)
        if answer.status == 403:
            # What HEAD does not tell those without the right to see it.
            raise ObjectRetained("the store does not let it be deleted", subject=key)
        if answer.status not in (200, 204, 404):
            raise StoreError(f"the store refused: {_told(answer)}", subject=key)


def read_rule(text: str) -> LockRule | None:
    """From S3's XML. Pure."""
    if "<ObjectLockEnabled>Enabled</ObjectLockEnabled>" not in text:
        return None
    mode = re.search(r"<Mode>(\w+)</Mode>", text)
    days, years = re.search(r"<Days>(\d+)</Days>", text), re.search(r"<Years>(\d+)</Years>", text)
    count = int(days[1]) if days else int(years[1]) * 365 if years else 0
    known = mode is not None and mode[1] in set(Mode) and count
    return LockRule(Mode(mode[1]) if mode and known else None, count if known else 0)


def written_rule(rule: LockRule) -> str:
    assert rule.mode is not None
    retention = f"<DefaultRetention><Mode>{rule.mode}</Mode><Days>{rule.days}</Days></DefaultRetention>"
    return (
        f'<ObjectLockConfiguration xmlns="{_NAMESPACE}"><ObjectLockEnabled>Enabled</ObjectLockEnabled>'
        f"<Rule>{retention}</Rule></ObjectLockConfiguration>"
    )


def _final(answer: Answer) -> bool:
    """There is no lock, the server has no such thing, or our rights do not reach so far."""
    return answer.status in (404, 405, 501) or (answer.status == 403 and _told(answer) == "AccessDenied")


def _until(found: Answer) -> datetime | None:
    text = found.headers.get("x-amz-object-lock-retain-until-date", "")
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
    except ValueError:
        return None  # then the store itself refuses


def _retained(key: str, until: datetime) -> ObjectRetained:
    told = until.isoformat(timespec="seconds").replace("+00:00", "Z")
    return ObjectRetained(f"the store keeps it until {told}", subject=key, until_ns=int(until.timestamp() * 1e9))


def _told(answer: Answer) -> str:
    code = CODE.search(answer.body.decode(errors="replace"))
    return code[1] if code else f"status {answer.status}"
