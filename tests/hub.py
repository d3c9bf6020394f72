"""A server that behaves like the model hub: files at commits, large ones through a redirect, and errors by the hub's codes."""

import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "5e2ebe8f6e98d4751eaf71a8514e0edbe73989a2"
_PATH = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
# What the hub keeps outside git, and names by its SHA-256.
_LARGE = (".bin", ".safetensors")


@dataclass
class Hub:
    """The running server. `models` has the folder of each repository and revision; `requests` are method and path."""

    models: dict[tuple[str, str], Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub._answer(self)

            do_GET = do_HEAD

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def publish(self, repo: str, folder: Path, commit: str = COMMIT) -> str:
        """The name of an encoder that the hub has from now on."""
        self.models[repo, commit] = folder
        return f"hub:{repo}@{commit}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(f"{request.command} {request.path}")
        if request.path.startswith("/large/"):
            return self._send(request, 200, Path(request.path.removeprefix("/large")).read_bytes(), {})
        found = _PATH.fullmatch(request.path)
        if found is None:
            return self._send(request, 404, b"", {})
        repo, revision = found["repo"], found["revision"]
        if repo not in {name for name, _ in self.models}:
            return self._send(request, 401, b"", {"X-Error-Code": "RepoNotFound"})
        if repo in self.gated:
            return self._send(request, 403, b"", {"X-Error-Code": "GatedRepo", "X-Repo-Commit": revision})
        if (repo, revision) not in self.models:
            return self._send(request, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        path = self.models[repo, revision] / found["file"]
        commit = {"X-Repo-Commit": revision}
        if not path.is_file():
            return self._send(request, 404, b"", {"X-Error-Code": "EntryNotFound", **commit})
        data = path.read_bytes()
        if not path.name.endswith(_LARGE):
            return self._send(request, 200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', **commit})
        digest = {"X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
        # From another host, as the hub's large files are.
        elsewhere = f"http://localhost:{self._server.server_port}/large{path}"
        return self._send(request, 302, b"", {"Location": elsewhere, **digest, **commit})

    def _send(self, request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)
