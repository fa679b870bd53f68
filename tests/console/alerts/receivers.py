"""Real receivers on this machine: a mail server that can be made difficult, and a web server that takes posts."""

import socket
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from tests.console.caller import Console

from leeward.console.alert_settings_api import build_router
from leeward.console.alerts.center import AlertCenter
from leeward.console.authority import Authority
from leeward.console.web.alert_letters import From


class _AnyPort(Controller):
    """Listens where the kernel has a free port; its own look whether it does must go there too."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def nobody_there():
    """A port that refuses: it is held, so that nobody else can listen there meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


USER, PASSWORD = "leeward", "correct horse"


class MailServer:
    """tls: starttls, tls or "". login: whether one has to sign in. turned_away: recipients it does not take."""

    def __init__(self, files=None, tls="", login=False, turned_away=()):
        self.mails, self.logins, self.turned_away = [], [], set(turned_away)
        self._tls, context = tls == "tls", None
        if tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*files)
        more = {"tls_context": context, "require_starttls": True} if tls == "starttls" else {}
        if login:
            more |= {
                "authenticator": self._authenticate,
                "auth_required": True,
                "auth_require_tls": tls == "starttls",
            }
        if tls == "tls":
            more |= {"ssl_context": context}
        self._controller = _AnyPort(self, hostname="127.0.0.1", port=0, **more)
        self._controller.start()
        self.port = self._controller.port

    def _authenticate(self, server, session, envelope, mechanism, data):
        self.logins.append((data.login.decode(), self._tls or session.ssl is not None))
        good = (data.login.decode(), data.password.decode()) == (USER, PASSWORD)
        return AuthResult(success=good, handled=good)

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address in self.turned_away:
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.mails.append((list(envelope.rcpt_tos), envelope.content))
        return "250 taken"

    def stop(self):
        self._controller.stop()


class Receiver:
    """Takes posts. status: what it answers with."""

    def __init__(self):
        self.posts, self.status = [], 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append((dict(self.headers), body))
                self.send_response(receiver.status)
                if receiver.status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def console_with_alerts(folder):
    """A console that is asked for settings of alerts; it has `authority` and `center` besides."""

    def routers(made):
        made.authority = Authority.open(folder / "authority")
        made.center = AlertCenter(made.database, made.authority, From("here", ""))
        return [build_router(made.center)]

    made = Console(folder, routers=routers)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def careful_mail_server(authority):
    """With STARTTLS, by a certificate of this authority, and logins."""
    made = MailServer(authority.server_files(["127.0.0.1"], "mail"), tls="starttls", login=True)
    made.ca = authority.ca_pem.decode()
    try:
        yield made
    finally:
        made.stop()
