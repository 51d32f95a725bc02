"""A hub on this machine: lists and serves the files of one repository as huggingface_hub asks for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Hub(ThreadingHTTPServer):
    """`asked` collects the names of files whose content was asked for, with the byte from which on."""

    daemon_threads = True

    def __init__(
        self, repo: str, commit: str, files: dict[str, bytes], *, refuse: dict[str, str] | None, kind: str
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repo, self.commit, self.files, self.refuse = repo, commit, files, refuse
        self.kind = kind  # datasets, models
        self.asked: list[tuple[str, int]] = []
        self.cut: dict[str, int] = {}  # name → bytes after which the connection breaks, once

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: Any) -> None:
        """Be silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, hub = self.path.split("?")[0], self.server
        names = (hub.commit, "main")
        start = ("/datasets" if hub.kind == "datasets" else "") + f"/{hub.repo}/resolve/{hub.commit}/"
        if hub.refuse is not None:
            self.reply(403, b"{}", hub.refuse)
        elif path in (f"/api/{hub.kind}/{hub.repo}", *(f"/api/{hub.kind}/{hub.repo}/revision/{r}" for r in names)):
            about = {"id": hub.repo, "sha": hub.commit, "siblings": [{"rfilename": name} for name in hub.files]}
            self.reply(200, json.dumps(about).encode(), {"Content-Type": "application/json"})
        elif path.startswith(f"/api/{hub.kind}/{hub.repo}/tree/{hub.commit}"):
            tree = [{"type": "file", "path": n, "size": len(b), "oid": etag(b)} for n, b in hub.files.items()]
            self.reply(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        elif path.startswith(start) and path[len(start) :] in hub.files:
            self.file(path[len(start) :])
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound" if hub.repo in path else "RepoNotFound"})

    def file(self, name: str) -> None:
        hub, data = self.server, self.server.files[name]
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        if self.command == "GET":
            hub.asked.append((name, start))
        headers = {"ETag": f'"{etag(data)}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = hub.cut.pop(name, None) if self.command == "GET" else None
        self.reply(206 if start else 200, data[start:], headers, cut)

    def reply(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])


def etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def serving(
    repo: str, commit: str, files: dict[str, bytes], refuse: dict[str, str] | None = None, kind: str = "datasets"
) -> Iterator[Hub]:
    with Hub(repo, commit, files, refuse=refuse, kind=kind) as hub:
        thread = Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
