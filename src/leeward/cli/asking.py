"""Questions to a console and its answers, however it is reached."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from leeward.domain.errors import LeewardError, NotFound

if TYPE_CHECKING:
    import httpx


def vm_path(vm: str, more: str) -> str:
    """Of a VM by its name or id. Raises NotFound for a name that cannot be asked for."""
    if "/" in vm:  # libvirt allows none in a name
        raise NotFound("there is no such VM", subject=vm, hint="Ask for it by its id: `leeward vm list --json`")
    return f"/vms/{quote(vm, safe='')}{more}"


def plan_path(plan: str, more: str = "") -> str:
    """Of a plan. Raises NotFound for a name that cannot be asked for."""
    if "/" in plan or plan in ("", ".", ".."):
        raise NotFound("no plan can have this name", subject=plan)  # and no address of the API either
    return f"/plans/{quote(plan)}{more}"


def without_number(error: Exception) -> str:
    """What the system said, without its "[Errno 111]"."""
    return re.sub(r"\[Errno -?\d+\] ", "", str(error))


class RemoteError(LeewardError):
    """An error that the console told; it keeps its own code and exit code."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told["message"], subject=told.get("subject", ""), hint=told.get("hint", ""))
        self.code = told.get("code", "error")
        self.exit_code = int(told.get("exit_code", 1))


class NoSuchAddress(RemoteError):
    """The console is of before what was asked for."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told)
        self.message = "the console knows no such request"
        self.hint = "It may be older than this command: bring both to the same version"


_NO_ADDRESS = "the API has no such address"  # tells it from a VM or point that is not there


class Asker:
    """Base of the two clients: they differ in how a request is sent, and in where to look when it fails."""

    def get(self, path: str, **params: Any) -> Any:
        return self._ask("GET", path, params={k: v for k, v in params.items() if v is not None})

    def fetch(self, path: str) -> bytes:
        """What is no JSON."""
        answer = self._send("GET", path)
        if not answer.is_success:
            raise self._error(answer, path)
        return answer.content

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("PUT", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("PATCH", path, json=body)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._ask("POST", path, json=body or {})

    def delete(self, path: str, **params: Any) -> Any:
        return self._ask("DELETE", path, params=params)

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Raises a LeewardError when no answer comes."""
        raise NotImplementedError

    def _where(self) -> str:
        """Where the operator finds more about a failure."""
        raise NotImplementedError

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self._send(method, path, **more)
        if answer.is_success:
            try:
                return answer.json()
            except ValueError:
                raise LeewardError("this is not Leeward's console", subject=path, hint=self._where()) from None
        raise self._error(answer, path)

    def _error(self, answer: httpx.Response, path: str) -> LeewardError:
        try:
            told = answer.json()["error"]
            return NoSuchAddress(told) if told["message"] == _NO_ADDRESS else RemoteError(told)
        except (ValueError, KeyError, TypeError):
            return LeewardError(f"the console failed (HTTP {answer.status_code})", subject=path, hint=self._where())
