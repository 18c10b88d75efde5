"""A small server that speaks the protocol of Hugging Face's hub: listings, files, large ones on another host.

It says what it is told to, true or not, and remembers what it was asked.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin", ".ckpt")


class Asked(NamedTuple):
    method: str
    path: str
    token: str | None
    begin: str | None  # the header Range


@dataclass
class Repository:
    """What the server has of one. change: edits the listing. sent: what is sent for files that are listed otherwise.

    gated, private, moved: files are refused, everything is, the listing is on another host.
    """

    files: dict[str, bytes]
    change: Callable[[dict[str, Any]], None] = lambda listing: None
    sent: dict[str, bytes] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    moved: bool = False
    status: int = 200
    stalls_at: int | None = None  # a byte of large files
    endless: bool = False  # large files never end

    @classmethod
    def of(cls, folder: Path, **options: Any) -> "Repository":
        found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        return cls(found, **options)

    def listing(self) -> dict[str, Any]:
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": etag(name, content), **_lfs(name, content)}
            for name, content in sorted(self.files.items())
        ]
        listing: dict[str, Any] = {"id": "someone/something", "sha": COMMIT, "siblings": siblings}
        self.change(listing)
        return listing


def etag(name: str, content: bytes) -> str:
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _lfs(name: str, content: bytes) -> dict[str, Any]:
    if not name.endswith(LARGE):
        return {}
    return {"lfs": {"size": len(content), "sha256": etag(name, content), "pointerSize": 134}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Print nothing where a client was killed."""


class Hub:
    """The server while it runs. repositories: name -> what it has; another host has their large files."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[Asked] = []
        self.asked_elsewhere: list[Asked] = []
        self.stalled = Event()
        self.go_on = Event()
        self.main = _Server(("127.0.0.1", 0), _handler(self, self.asked))
        self.elsewhere = _Server(("127.0.0.1", 0), _handler(self, self.asked_elsewhere))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.main.server_port}"

    @property
    def url_elsewhere(self) -> str:
        return f"http://127.0.0.1:{self.elsewhere.server_port}"

    def fetched(self) -> set[str]:
        """The files whose content was asked for, on either host."""
        asked = [each for each in (*self.asked, *self.asked_elsewhere) if each.method == "GET"]
        return {each.path.split("/resolve/")[1].partition("/")[2] for each in asked if "/resolve/" in each.path}

    def forget(self) -> None:
        self.asked.clear()
        self.asked_elsewhere.clear()


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()
    servers = (hub.main, hub.elsewhere)
    for server in servers:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        for server in servers:
            server.shutdown()
            server.server_close()


def _handler(hub: Hub, asked: list[Asked]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(Asked(self.command, path, self.headers["Authorization"], self.headers["Range"]))
            owner_and_name = "/".join(path.removeprefix("/api/models").split("/")[1:3])
            repository = hub.repositories.get(owner_and_name)
            if repository is None or (repository.private and self.headers["Authorization"] is None):
                self.refuse(401, "RepoNotFound")
            elif repository.status != 200:
                self.refuse(repository.status, "")
            elif path.startswith("/api/models/"):
                self.list(repository, path)
            else:
                self.give(repository, *path.partition("/resolve/")[2].split("/", 1))

        def list(self, repository: Repository, path: str) -> None:
            if path.partition("/revision/")[2] not in ("", "main", "v1", COMMIT):
                self.refuse(404, "RevisionNotFound")
            elif repository.moved and self.server is hub.main:
                self.answer(302, b"", {"Location": hub.url_elsewhere + self.path})
            else:
                self.answer(200, json.dumps(repository.listing()).encode(), {"Content-Type": "application/json"})

        def give(self, repository: Repository, revision: str, name: str) -> None:
            if repository.gated and self.headers["Authorization"] is None:
                self.refuse(401, "GatedRepo")
                return
            content = repository.files.get(name)
            if content is None:
                self.refuse(404, "EntryNotFound")
                return
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag(name, content)}"'}
            content = repository.sent.get(name, content)
            if name.endswith(LARGE) and self.server is hub.main:
                headers |= {
                    "X-Linked-Etag": headers["ETag"],
                    "X-Linked-Size": str(len(content)),
                    "Location": f"{hub.url_elsewhere}{self.path.replace(f'/{revision}/', f'/{COMMIT}/')}",
                }
                self.answer(302, b"", headers)
                return
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.headers["Range"] else 0
            if begin:
                headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            self.answer(206 if begin else 200, content[begin:], headers, repository if name.endswith(LARGE) else None)

        def refuse(self, status: int, code: str) -> None:
            self.answer(status, b"", {"X-Error-Code": code} if code else {})

        def answer(self, status: int, content: bytes, headers: dict[str, str], large: Repository | None = None) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            endless = large is not None and large.endless
            self.send_header(*(("Connection", "close") if endless else ("Content-Length", str(len(content)))))
            self.end_headers()
            if self.command == "HEAD":
                return
            if large is not None and large.stalls_at is not None and not hub.go_on.is_set():
                self.wfile.write(content[: large.stalls_at])
                hub.stalled.set()
                hub.go_on.wait(30)
                return
            try:
                self.wfile.write(content)
                while endless and not hub.go_on.is_set():
                    self.wfile.write(bytes(2**20))
            except ConnectionError:
                self.close_connection = True  # the client has had enough

    return Handler
