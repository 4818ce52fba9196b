"""A stand-in for Hugging Face's Hub: repositories in memory, served as huggingface_hub asks for them."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class Hub:
    """Repositories, each a list of commits: the last is `main`, and each goes by its number, 40 digits."""

    def __init__(self) -> None:
        self.repositories: dict[str, list[Files]] = {}
        self.asked: list[str] = []  # for files
        self.private: dict[str, bool] = {}
        self.address = ""

    def commit(self, repository: str, revision: str) -> tuple[str, Files] | None:
        commits = self.repositories.get(repository, [])
        number = len(commits) if revision == "main" else int(revision) if revision.isdecimal() else 0
        return (f"{number:040d}", commits[number - 1]) if 0 < number <= len(commits) else None


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Within, the hub answers at its `address`."""

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: Hub

    def log_message(self, *words: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            repository, what, revision = "/".join(parts[2:4]), parts[4], parts[5]
        else:
            repository, what, revision = "/".join(parts[:2]), parts[2], parts[3]
        if repository not in self.served.repositories:
            return self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        found = self.served.commit(repository, revision)
        if found is None:
            return self._answer({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        commit, files = found
        if what == "revision":
            self._answer({"id": repository, "sha": commit, "siblings": []})
        elif what == "tree":
            self._answer(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
            )
        else:
            name = "/".join(parts[4:])
            self.served.asked.append(name)
            etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
            self._send(files[name], 200, {"ETag": etag, "X-Repo-Commit": commit})
        return None

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            asked = json.loads(data)
            name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            self.served.repositories.setdefault(name, [])
            self.served.private.setdefault(name, asked.get("visibility") == "private")
            self._answer({"url": f"{self.served.address}/{name}"})
        elif parts[4:5] == ["preupload"]:
            files = json.loads(data)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self._answer({"files": modes})
        elif parts[4:5] == ["commit"]:
            repository = "/".join(parts[2:4])
            commits = self.served.repositories[repository]
            files = dict(commits[-1]) if commits else {}
            for line in map(json.loads, data.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commits.append(files)
            number = f"{len(commits):040d}"
            address = f"{self.served.address}/{repository}/commit/{number}"
            self._answer({"success": True, "commitOid": number, "commitUrl": address})
        else:
            self._answer({})

    def _answer(self, values: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(
            json.dumps(values).encode(), status, {"Content-Type": "application/json", **(headers or {})}
        )

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
