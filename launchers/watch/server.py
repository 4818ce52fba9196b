"""The page over HTTP, to browsers on this machine: three files, a stream of what is shown, and orders.

It reads the board and writes orders there; it neither plays nor draws. Whoever comes from another page, or by
another name than this server's, is refused: pages on the web could have a browser ask here otherwise.
"""

from __future__ import annotations

import errno
import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from metaslac.errors import MetaslacError
from metaslac.launchers.watch.board import Board, Notice, Shown

HERE = Path(__file__).parent
FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
POLICY = (
    "default-src 'none'; img-src data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
HTTP_PORT = 80  # which browsers leave out
LARGEST_ORDER = 1024  # bytes
MOST_STREAMS = 8
PATIENCE_SECONDS = 10.0  # with a browser that neither sends nor takes
BEAT_SECONDS = 2.0  # after which a stream says that it is still there


@dataclass(frozen=True)
class Show:
    """What there is to serve."""

    board: Board
    about: Mapping[str, Any]  # what never changes
    order: Callable[[Any], None]  # follows one; MetaslacError for what is none


class PageServer(ThreadingHTTPServer):
    """Listens from the beginning and answers between `open` and `close`.

    Args:
        host: name or address to listen on.
        port: 0 is any that is free.

    Raises MetaslacError where it cannot listen.
    """

    daemon_threads = True
    show: Show

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.streams = threading.BoundedSemaphore(MOST_STREAMS)
        self._thread: threading.Thread | None = None
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.address_family = family
            super().__init__(address[:2], _Handler)  # type: ignore[arg-type]
        except OSError as error:
            taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
            hint = "; --port 0 takes one that is free" if taken else ""
            said = error.strerror or error
            raise MetaslacError(f"cannot listen on {host}, port {port}: {said}{hint}") from None

    def server_bind(self) -> None:
        """As of the base, but for asking a name server what this machine is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    @property
    def address(self) -> str:
        """Where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_port}/"

    def open(self, show: Show) -> None:
        """Answer from now on, in threads."""
        self.show = show
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        if self._thread is not None:
            self.show.board.close()
            self.shutdown()
            self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers may go away at any time; everything else is told as usual."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """An answer that is an error, and why in a line."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = "metaslac", ""
    timeout = PATIENCE_SECONDS

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _get(self) -> None:
        if self.path in FILES:
            name, kind = FILES[self.path]
            self._send(HTTPStatus.OK, kind, (HERE / name).read_bytes())
        elif self.path == "/about":
            about = json.dumps(self.server.show.about).encode()
            self._send(HTTPStatus.OK, "application/json", about)
        elif self.path == "/shown":
            self._stream()
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self) -> None:
        if self.path != "/order":
            raise _Refused(HTTPStatus.NOT_FOUND, "there is nothing to send anything to")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "an order is application/json")
        try:
            order = json.loads(self._body())
        except (ValueError, RecursionError):
            raise _Refused(HTTPStatus.BAD_REQUEST, "an order is JSON, and this is none") from None
        try:
            self.server.show.order(order)
        except MetaslacError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
        self._send(HTTPStatus.OK, "application/json", b"{}")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "an order needs a Content-Length")
        if len(length) > len(str(LARGEST_ORDER)) or int(length) > LARGEST_ORDER:
            said = f"an order has at most {LARGEST_ORDER} bytes"
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)
        return self.rfile.read(int(length))

    def _stream(self) -> None:
        """Server-sent events: what lies on the board, whenever it is something else."""
        if not self.server.streams.acquire(blocking=False):
            raise _Refused(HTTPStatus.TOO_MANY_REQUESTS, f"at most {MOST_STREAMS} pages watch at a time")
        board, number, shown = self.server.show.board, -1, None
        try:
            with board.watched():
                self._begin(HTTPStatus.OK, "text/event-stream")
                while not board.closed:
                    notice = board.wait(number, BEAT_SECONDS)
                    data = json.dumps(_told(notice, notice.shown is not shown))
                    self.wfile.write(f"data: {data}\n\n".encode())
                    number, shown = notice.number, notice.shown
        finally:
            self.server.streams.release()

    def _answer(self, reply: Callable[[], None]) -> None:
        try:
            self._check_caller()
            reply()
        except _Refused as refused:
            self._refuse(refused.status, str(refused))
        except (ConnectionError, TimeoutError):  # nobody is there any more
            self.close_connection = True

    def _check_caller(self) -> None:
        """Raise _Refused for those who call this server by another name, or come from another page."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._own_names():
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, f"this is {self.server.address}")
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{hosts[0].lower()}":
            raise _Refused(HTTPStatus.FORBIDDEN, "no other page may ask here")

    def _own_names(self) -> set[str]:
        """What a Host header may be: the host listened on, or the address that was connected to."""
        address, port = self.connection.getsockname()[:2]
        names = {self.server.host.lower(), address}
        if ip_address(address).is_loopback:
            names.add("localhost")
        written = {f"[{name}]" if ":" in name else name for name in names}
        return {f"{name}:{port}" for name in written} | (written if port == HTTP_PORT else set())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As of the base, which refuses what it cannot read and methods that there are not; in our form."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, "only GET and POST"
        self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(status, "text/plain", f"{' '.join(why.split())}\n".encode())

    def _send(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        self._begin(status, kind, {"Content-Length": str(len(data))})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _begin(self, status: HTTPStatus, kind: str, more: Mapping[str, str] | None = None) -> None:
        self.close_connection = True
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", **HEADERS, **(more or {})}
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET, POST"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests are nobody's business."""


def _told(notice: Notice, with_picture: bool) -> dict[str, Any]:
    """A notice as JSON; its picture only where it is a new one."""
    told: dict[str, Any] = {"wishes": vars(notice.wishes)}
    if notice.shown is not None and with_picture:
        told["shown"] = _in_json(notice.shown)
    return told


def _in_json(shown: Shown) -> dict[str, Any]:
    told = {name: value for name, value in vars(shown).items() if name != "camera"}
    return told | {"ended": [ended._asdict() for ended in shown.ended]}
