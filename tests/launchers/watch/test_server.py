"""Whom the page's server answers, and whom not."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from metaslac.errors import MetaslacError
from metaslac.launchers.watch.board import Board
from metaslac.launchers.watch.orders import Wishes
from metaslac.launchers.watch.server import LARGEST_ORDER, MOST_STREAMS, PageServer, Show


class Served:
    """A server without a session, and the orders that got through."""

    def __init__(self) -> None:
        self.orders: list[Any] = []
        self.board = Board(Wishes((0.5, -0.3), 7.0))
        self.server = PageServer("127.0.0.1", 0)
        self.port = self.server.server_port
        self.server.open(Show(self.board, {"family": "point_robot"}, self.follow))

    def follow(self, order: Any) -> None:
        if order == {"bad": 1}:
            raise MetaslacError("no such\norder")
        self.orders.append(order)

    def answer(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, str, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with closing(connection):
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers

    def post(self, body: bytes, **headers: str) -> tuple[int, str]:
        status, text, _ = self.answer(
            "POST", "/order", body, **{"Content_Type": "application/json", **headers}
        )
        return status, text


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.server.close()


def test_the_page_and_its_parts_are_there_and_ask_nobody_else(served: Served) -> None:
    for path in ("/", "/page.js", "/page.css", "/about"):
        status, text, headers = served.answer("GET", path)
        assert status == 200 and text
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers


def test_orders_get_through_once_each(served: Served) -> None:
    own = f"http://127.0.0.1:{served.port}"
    assert served.post(b'{"pace": 3}', Origin=own) == (200, "{}")
    assert served.post(b'{"forget": true}')[0] == 200  # curl sends no Origin
    assert served.orders == [{"pace": 3}, {"forget": True}]


def test_localhost_is_this_server_too(served: Served) -> None:
    host = f"localhost:{served.port}"
    assert served.answer("GET", "/", Host=host)[0] == 200
    assert served.post(b"{}", Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{}", "127.0.0.1", "127.0.0.1:1", "127.0.0.2:{}", ""]
)
def test_other_names_are_refused(served: Served, host: str) -> None:
    named = host.format(served.port)
    for path in ("/", "/about", "/shown"):
        status, text, _ = served.answer("GET", path, Host=named)
        assert (status, text.count("\n")) == (421, 1)
    assert served.post(b'{"pace": 3}', Host=named, Origin=f"http://{named}")[0] == 421
    assert served.orders == []


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:{}", "http://localhost:{}", ""]
)
def test_other_pages_are_refused(served: Served, origin: str) -> None:
    named = origin.format(served.port)
    assert served.post(b'{"pace": 3}', Origin=named) == (403, "no other page may ask here\n")
    assert served.answer("GET", "/shown", Origin=named)[0] == 403
    assert served.orders == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_other_methods_are_refused(served: Served, method: str) -> None:
    status, text, headers = served.answer(method, "/")
    assert (status, text, headers["Allow"]) == (405, "only GET and POST\n", "GET, POST")


@pytest.mark.parametrize("path", ["/nowhere", "/../setup.py", "/page.js?x", "//evil.example", "/server.py"])
def test_there_is_nothing_else(served: Served, path: str) -> None:
    assert served.answer("GET", path)[0] == 404
    assert served.answer("POST", path, b"{}", Content_Type="application/json")[0] == 404


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"pace=3", b"[" * LARGEST_ORDER, b'{"bad": 1}', b'{"a": 1}' * 2]
)
def test_what_is_no_order_is_refused_in_a_line(served: Served, body: bytes) -> None:
    status, text = served.post(body)
    assert status == 400 and text.strip() and text.count("\n") == 1
    assert served.orders == []


def test_orders_are_small_and_of_their_kind(served: Served) -> None:
    assert served.post(b" " * LARGEST_ORDER + b"1")[0] == 413
    assert served.post(b"{}", Content_Type="text/plain")[0] == 415
    assert served.post(b"{}", Content_Length="9" * 5000)[0] == 413
    for length in ("-1", "1.0", "٣".encode().decode("latin-1"), "many"):
        assert served.post(b"{}", Content_Length=length)[0] == 411
    assert served.orders == []


def test_what_is_not_http_is_refused_in_a_line(served: Served) -> None:
    for request in (b"GET\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
            connection.sendall(request)
            answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()  # noqa: B023
        assert "Traceback" not in answer and "<" not in answer
        assert answer.count("\n") <= 12


def events(served: Served, stream: http.client.HTTPResponse, number: int) -> list[Any]:
    lines = (stream.readline().decode().strip() for _ in range(2 * number))
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def test_a_stream_tells_of_every_change_and_ends_with_the_server(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", "/shown")
    stream = connection.getresponse()
    (first,) = events(served, stream, 1)
    assert first["wishes"]["pace"] == 7.0 and "shown" not in first
    served.board.ask(lambda notice: Wishes(notice.wishes.params, 9.0))
    (second,) = events(served, stream, 1)
    assert second["wishes"]["pace"] == 9.0
    closing_it = threading.Thread(target=served.server.close)
    closing_it.start()
    assert stream.read().strip() in (b"", b"data: " + json.dumps(second).encode())
    closing_it.join(5)
    assert not closing_it.is_alive()
    connection.close()


def test_only_so_many_watch_at_a_time(served: Served) -> None:
    streams = []
    for _ in range(MOST_STREAMS):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
        connection.request("GET", "/shown")
        streams.append((connection, connection.getresponse()))
    assert served.answer("GET", "/shown")[0] == 429
    for connection, _ in streams:
        connection.close()


def test_a_port_that_is_taken_is_refused_in_a_line(served: Served) -> None:
    with pytest.raises(MetaslacError, match="--port 0"):
        PageServer("127.0.0.1", served.port)
    with pytest.raises(MetaslacError, match="cannot listen on no.such.host.invalid") as refused:
        PageServer("no.such.host.invalid", served.port)
    assert "--port 0" not in str(refused.value)
