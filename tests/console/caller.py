"""The API of a whole console in this process, asked as clients ask it; only libvirt and the network are not there."""

import asyncio

import httpx
from tests.console.world import VM, World

from leeward.console.api import build_api
from leeward.console.gate import LOCAL_SCOPE
from leeward.console.identity import build_identity
from leeward.console.passwords import Cost
from leeward.domain.access import Role

PASSWORD = "a long enough password"
FAST = Cost(memory_kib=64, iterations=1, lanes=1)
WEB = VM


class Caller:
    """Asks the app as one client does. actor: nobody, local, or (header or cookie) what `as_` was given."""

    def __init__(self, app, *, local=False, address="203.0.113.7", headers=None, cookies=None):
        self._app = app
        self._local = local
        self._address = address
        self.headers = headers or {}
        self.cookies = cookies or {}

    def ask(self, method, path, body=None, **more):
        headers = {**self.headers, **more.pop("headers", {})}

        async def marked(scope, receive, send):
            if self._local:
                scope[LOCAL_SCOPE] = True
            await self._app(scope, receive, send)

        async def once():
            transport = httpx.ASGITransport(app=marked, client=(self._address, 5), raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="https://console", cookies=self.cookies
            ) as client:
                content = {} if body is None else {"json": body}
                return await client.request(method, f"/api/v1{path}", headers=headers, **content, **more)

        return asyncio.run(once())

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def put(self, path, body, **more):
        return self.ask("PUT", path, body, **more)

    def post(self, path, body=None, **more):
        return self.ask("POST", path, {} if body is None else body, **more)

    def delete(self, path, **more):
        return self.ask("DELETE", path, **more)


class Console:
    """A world and the API to it. `local`: as root on the machine; `anyone`: a stranger on the network."""

    def __init__(self, folder):
        self.folder = folder
        self.world = World(folder)
        self.database, self.service, self.vault = self.world.database, self.world.service, self.world.vault
        self.identity = build_identity(self.database, authority=("PEM", "AB:CD"), cost=FAST)
        # Paces are counted on a clock that stands still, however slow the machine.
        self.pace = 1000.0
        for limiter in (self.identity.reception._tries, self.identity.trail._strangers):
            limiter._clock = lambda: self.pace
        self.app = build_api(self.service, self.identity)
        self.local = Caller(self.app, local=True)
        self.anyone = Caller(self.app)

    def user(self, name, role, **more):
        """A user who has signed in on the command line."""
        self.identity.reception.add_user(name, PASSWORD, Role(role))
        return self.signed_in(name, **more)

    def signed_in(self, name, password=PASSWORD, **more):
        answer = self.anyone.post("/login", {"user": name, "password": password, "kind": "cli"})
        assert answer.status_code == 200, answer.text
        return Caller(self.app, headers={"Authorization": f"Bearer {answer.json()['token']}"}, **more)

    def browser(self, name, password=PASSWORD):
        """(caller with the cookie alone, CSRF token)"""
        answer = self.anyone.post("/login", {"user": name, "password": password})
        assert answer.status_code == 200, answer.text
        return Caller(self.app, cookies=dict(answer.cookies)), answer.json()["csrf"]

    def audit(self, limit=100):
        return self.local.get("/audit", params={"limit": limit}).json()

    def close(self):
        self.world.close()
