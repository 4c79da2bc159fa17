"""A model hub on loopback that answers as the real one does, and fails in the ways it fails."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"
PULL, PULL_SHA = "refs/pr/1", "f" * 40
"""A branch that a folder named `OWNER/NAME@refs/pr/1` is served for, and its commit."""
STATUS = {"gone": 404, "private": 401, "forbidden": 403, "ill": 503}
"""What the repositories of these names answer to everything."""


class Hub(ThreadingHTTPServer):
    """Serves `folders` (hub id → folder) at commit SHA, in a `with`. Names of other repositories say what they do:

    fake/gone 404, fake/private 401, fake/forbidden 403, fake/ill 503, fake/slow never answers, fake/gated is read by
    all and had by none, fake/portal answers with a web page, fake/half-… sends half of each file of weights. Any other
    name is known, and has no files.
    """

    daemon_threads = True

    def __init__(self, folders: dict[str, Path] | None = None):
        super().__init__(("127.0.0.1", 0), Answer)
        self.folders, self.closing, self.asked = folders or {}, threading.Event(), []
        self.gone: set[str] = set()
        """Repositories that vanished: 404."""

    def __enter__(self) -> Hub:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        """Be out of reach from here on: connections are refused."""
        if not self.closing.is_set():
            self.closing.set()
            self.shutdown()
            self.server_close()

    def __exit__(self, *_) -> None:
        self.stop()

    def environment(self, home: Path) -> dict[str, str]:
        """For a process that knows this hub alone, with its cache in `home`, and waits a second for answers."""
        own = {k: v for k, v in os.environ.items() if not re.match(r"HF_|LR_|HUGGING|.*_proxy$", k, re.IGNORECASE)}
        return own | {"HF_ENDPOINT": f"http://127.0.0.1:{self.server_port}", "HF_HOME": str(home), "PYTHONUTF8": "1",
                      "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}


class Answer(BaseHTTPRequestHandler):
    """One request."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        file = re.fullmatch(rf"/([^/]+/[^/]+)/resolve/({PULL}|[^/]+)/(.+)", path)
        about = re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path)
        name = file[1] if file else about[1] if about else path
        kind = name.partition("/")[2]
        if kind == "slow":
            self.server.closing.wait(60)
        elif name in self.server.gone:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif kind in STATUS:
            self.reply(STATUS[kind], b"{}")
        elif kind == "portal":
            self.reply(200, b"<html>Log in to the campus network</html>")
        elif kind == "gated" and (file or about[2] == "/auth-check"):
            self.reply(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif file:
            self.reply_file(name, file[3], self.folder(name, file[2]))
        else:
            self.reply(200, json.dumps(self.about(name, about[2] or "" if about else "")).encode(), {"Content-Type": "application/json"})

    def folder(self, name: str, revision: str) -> Path | None:
        pulled = revision.endswith((PULL, PULL_SHA))
        return self.server.folders.get(f"{name}@{PULL}" if pulled else name)

    def about(self, name: str, what: str) -> dict | list:
        folder = self.folder(name, what)
        files = sorted(f for f in folder.rglob("*") if f.is_file()) if folder else []
        names = [f.relative_to(folder).as_posix() for f in files]
        if "/tree/" in what:
            return [{"type": "file", "path": n, "size": f.stat().st_size, "oid": tag(f)}
                    for n, f in zip(names, files, strict=True)]
        if what.startswith("/discussions"):
            found = [] if f"{name}@{PULL}" not in self.server.folders else [{
                "num": 1, "title": "Adding `safetensors` variant of this model", "author": {"name": "SFconvertbot"},
                "status": "open", "isPullRequest": True, "repo": {"name": name, "type": "model"},
                "createdAt": "2023-01-01T00:00:00.000Z"}]
            return {"discussions": found, "count": len(found), "start": 0}
        pulled = what.endswith((PULL, PULL_SHA))
        return {"id": name, "sha": PULL_SHA if pulled else SHA, "gated": "manual" if name == "fake/gated" else False, "private": False,
                "siblings": [{"rfilename": n} for n in names]}

    def reply_file(self, name: str, file: str, folder: Path | None) -> None:
        path = (folder or Path("nowhere")) / file
        if not path.is_file():
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        body = path.read_bytes()
        half = "/half" in name and path.suffix == ".safetensors" and self.command == "GET"
        commit = PULL_SHA if PULL_SHA in self.path or PULL in unquote(self.path) else SHA
        self.reply(200, body, {"X-Repo-Commit": commit, "ETag": f'"{tag(path)}"'}, half)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None, half: bool = False) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if half else body)

    def log_message(self, *_) -> None:
        pass


def tag(file: Path) -> str:
    """The name under which a cache keeps this content."""
    return hashlib.sha1(file.read_bytes()).hexdigest()
