"""A server on this machine that speaks the hub's protocol of downloads and commits, but for Xet, and can misbehave."""

import hashlib
import json
import os
import re
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

LFS_SIZE = 1000  # files of at least so many bytes are stored by their SHA-256, smaller ones by Git's hash


@dataclass
class Hub:
    """What the server has, and how it misbehaves.

    Attributes:
        files: contents by `owner/repository` and path; `upload` changes them.
        commits: of each repository.
        branches: of each repository, beside `main`; what is on them is the same. Files are had by any other name too.
        served: sent instead of the content of a path.
        drop_after: bytes after which connections are dropped; one for each request for content, then no more.
        hold_after: bytes of a content after which `go_on` is waited for.
        ignores_ranges: whether contents are always sent whole.
        requests: method and path of every request.
        downloads: ranges of the requests for content.
        tokens: what requests were authorised with, by their paths.
        answer: sent to every request, in place of the hub's answer.
        objects: large contents that were uploaded, by their SHA-256.
        created: what repositories were asked for.
        log: of each commit that was pushed, its summary and its operations with their paths.
        refusal: why nothing may be changed.
    """

    endpoint: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    branches: dict[str, set[str]] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    drop_after: list[int] = field(default_factory=list)
    hold_after: int | None = None
    go_on: Event = field(default_factory=Event)
    ignores_ranges: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)
    downloads: list[str | None] = field(default_factory=list)
    tokens: dict[str, str | None] = field(default_factory=dict)
    answer: tuple[int, bytes] | None = None
    objects: dict[str, bytes] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    log: list[tuple[str, set[tuple[str, str]]]] = field(default_factory=list)
    refusal: str | None = None

    def upload(self, repository: str, **files: bytes) -> None:
        """Commit files, by their paths."""
        self.put(repository, self.files.get(repository, {}) | files)

    def put(self, repository: str, files: dict[str, bytes]) -> None:
        """Make these all files of a repository."""
        self.files[repository] = files
        contents = repr(sorted((path, hash_of(content)) for path, content in self.files[repository].items()))
        self.commits[repository] = hashlib.sha1(contents.encode()).hexdigest()


def hash_of(content: bytes) -> str:
    """As the hub names it."""
    if len(content) >= LFS_SIZE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """For a process that is to know the hub and its cache from the environment alone."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    paths = os.pathsep.join(sys.path)
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1,localhost", "PYTHONPATH": paths}
    return clean | own


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a server until the end of the block."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._change()

    def do_PUT(self) -> None:
        self._change()

    def _respond(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        self.hub.tokens[path] = self.headers.get("Authorization")
        if self.hub.answer is not None:
            self._send(*self.hub.answer)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self._api(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._resolve(*match.groups())
        elif match := re.fullmatch(r"/cdn/(.+)/(.+)", path):
            self._content(*match.groups(), {})
        else:
            self._send(404, b"")

    def _change(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.requests.append((self.command, path))
        if self.hub.refusal is not None:
            self._json(403, {"error": self.hub.refusal})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/([^/]+)", path):
            self._branch(*match.groups())
        elif (match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(?:preupload|commit)/([^/]+)", path)) and not (
            self._has(*match.groups())
        ):
            self._json(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        elif re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/[^/]+", path):
            modes = {
                file["path"]: "lfs" if file["size"] >= LFS_SIZE else "regular" for file in json.loads(body)["files"]
            }
            files = [{"path": file, "uploadMode": mode, "shouldIgnore": False} for file, mode in modes.items()]
            self._json(200, {"files": files})
        elif re.fullmatch(r"/[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            wanted = json.loads(body)["objects"]
            self._json(200, {"transfer": "basic", "objects": [self._place(**large) for large in wanted]})
        elif match := re.fullmatch(r"/storage/([0-9a-f]{64})", path):
            self._store(match[1], body)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/[^/]+", path):
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._send(404, b"")

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        url = f"{self.hub.endpoint}/{name}"
        if name in self.hub.files:
            self._json(409, {"error": "You already created this model repo", "url": url})
            return
        self.hub.created.append(wanted)
        self.hub.put(name, {})
        self._json(200, {"url": url})

    def _branch(self, repository: str, name: str) -> None:
        if self._has(repository, name):
            self._json(409, {"error": f"Reference already exists: {name}"})
            return
        self.hub.branches.setdefault(repository, set()).add(name)
        self._json(200, {})

    def _has(self, repository: str, revision: str) -> bool:
        known = {"main", self.hub.commits.get(repository)} | self.hub.branches.get(repository, set())
        return revision in known

    def _validate(self, readme: str) -> None:
        _, metadata, _ = readme.split("---\n", 2)
        is_valid = isinstance(yaml.safe_load(metadata), dict)
        self._json(200 if is_valid else 400, {"errors": [] if is_valid else [{"message": "no metadata"}]})

    def _place(self, oid: str, size: int) -> dict[str, Any]:
        place = {"oid": oid, "size": size}
        upload = {"href": f"{self.hub.endpoint}/storage/{oid}"}
        return place if oid in self.hub.objects else place | {"actions": {"upload": upload}}

    def _store(self, digest: str, content: bytes) -> None:
        if hash_of(content) != digest:
            self._json(400, {"error": "another content"})
            return
        self.hub.objects[digest] = content
        self._send(200, b"")

    def _commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        header, *operations = lines
        files = dict(self.hub.files[repository])
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        self.hub.put(repository, files)
        done = {(operation["key"], operation["value"]["path"]) for operation in operations}
        self.hub.log.append((header["value"]["summary"], done))
        oid = self.hub.commits[repository]
        self._json(200, {"commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{repository}/commit/{oid}"})

    def _api(self, repository: str, what: str | None, revision: str | None) -> None:
        if repository not in self.hub.files:
            self._json(404, {}, {"X-Error-Code": "RepoNotFound"})
            return
        if what == "tree" and not self._has(repository, revision or "main"):
            self._json(404, {}, {"X-Error-Code": "RevisionNotFound"})
            return
        files = self.hub.files[repository].items()
        if what != "tree":
            siblings = [{"rfilename": path} for path, _ in files]
            data: Any = {"id": repository, "sha": self.hub.commits[repository], "siblings": siblings, "tags": []}
        else:
            data = [_tree_entry(path, content) for path, content in files]
        self._json(200, data)

    def _resolve(self, repository: str, path: str) -> None:
        content = self.hub.files.get(repository, {}).get(path)
        if content is None:
            known = repository in self.hub.files
            headers = {"X-Error-Code": "EntryNotFound" if known else "RepoNotFound"}
            self._send(404, b"", headers | ({"X-Repo-Commit": self.hub.commits[repository]} if known else {}))
            return
        headers = {"X-Repo-Commit": self.hub.commits[repository]}
        if len(content) < LFS_SIZE:
            self._content(path, hash_of(content), headers | {"ETag": f'"{hash_of(content)}"'})
            return
        headers |= {"X-Linked-Etag": f'"{hash_of(content)}"', "X-Linked-Size": str(len(content))}
        elsewhere = self.hub.endpoint.replace("127.0.0.1", "localhost")  # the hub's storage is another host
        self._send(302, b"", headers | {"Location": f"{elsewhere}/cdn/{path}/{hash_of(content)}"})

    def _content(self, path: str, digest: str, headers: dict[str, str]) -> None:
        contents = (content for files in self.hub.files.values() for content in files.values())
        content = self.hub.served.get(path) or next(content for content in contents if hash_of(content) == digest)
        span, status = self.headers.get("Range"), 200
        if self.command == "GET":
            self.hub.downloads.append(span)
        if span is not None and not self.hub.ignores_ranges:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            content, status = content[start:], 206
        drops = self.hub.drop_after and self.command == "GET"
        self._send(status, content, headers, self.hub.drop_after.pop(0) if drops else None, self.hub.hold_after)

    def _json(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(data).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        length: int | None = None,
        hold: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if hold is not None:
            self.wfile.write(body[:hold])
            self.hub.go_on.wait(60)
            body = body[hold:]
        with suppress(ConnectionError):  # of a client that was killed
            self.wfile.write(body[:length])
        if length is not None:
            self.close_connection = True


def _tree_entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": hash_of(content)}
    if len(content) < LFS_SIZE:
        return entry
    return entry | {"lfs": {"oid": hash_of(content), "size": len(content), "pointerSize": 100}}
