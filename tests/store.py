"""An S3 service for tests: moto's, behind a layer that counts requests and does harm on demand.

Requests pass one at a time, as moto does not make a conditional PUT atomic by itself.
"""

import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

# What a fault does: answers with an error, works and never answers, works and answers late, or breaks off within the body.
LOST, SLOW, CUT, UNCONDITIONAL = "lost", "slow", "cut", "unconditional"


@dataclass
class Fault:
    """What happens to the next `times` requests that match, method and path with query, such as `PUT /b/_receipts/`."""

    pattern: str
    does: str
    times: float = 1
    status: int = 503
    body: str = ""
    seconds: float = 3.0
    met: int = 0

    def meets(self, request: str) -> bool:
        if self.met >= self.times or not re.search(self.pattern, request):
            return False
        self.met += 1
        return True


def error(code: str, status: int, pattern: str = ".", times: float = 1, more: str = "") -> Fault:
    """The service answers with an S3 error."""
    xml = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message>{more}</Error>'
    return Fault(pattern, "error", times, status, xml)


@dataclass
class Store:
    """The running service; `requests` are method and path with query of all that came in."""

    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()

    def new_bucket(self) -> str:
        import boto3

        name = f"bucket-{uuid.uuid4().hex[:12]}"
        boto3.client("s3", endpoint_url=self.url, region_name="us-east-1").create_bucket(Bucket=name)
        return name

    def reset(self) -> None:
        self.faults, self.requests = [], []

    @contextmanager
    def harmed(self, *faults: Fault) -> Iterator[None]:
        self.faults = list(faults)
        try:
            yield
        finally:
            self.faults = []

    def count(self, pattern: str = ".") -> int:
        return sum(bool(re.search(pattern, each)) for each in self.requests)

    def __call__(self, environ: dict[str, Any], start: Callable) -> Iterable[bytes]:
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}"
        with self._lock:
            self.requests.append(request)
            fault = next((each for each in self.faults if each.meets(request)), None)
        if fault is None:
            return self._answer(environ, start)
        if fault.does == "error":
            # Unread, the body of a PUT would be taken for the next request.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(f"{fault.status} Fault", [("Content-Type", "application/xml"), ("Content-Length", str(len(fault.body)))])
            return [fault.body.encode() if environ["REQUEST_METHOD"] != "HEAD" else b""]
        if fault.does == UNCONDITIONAL:
            environ.pop("HTTP_IF_NONE_MATCH", None)
            return self._answer(environ, start)
        if fault.does == SLOW:
            body = self._answer(environ, start)
            time.sleep(fault.seconds)
            return body
        if fault.does == LOST:
            self._answer(environ, lambda *_: None)
            return _hung_up(environ)
        head: list = []
        body = b"".join(self._answer(environ, lambda *given: head.extend(given)))
        start(*head)
        return _broken(environ, body[: len(body) // 2])

    def _answer(self, environ: dict[str, Any], start: Callable) -> list[bytes]:
        with self._lock:
            return list(self._app(environ, start))


def _hung_up(environ: dict[str, Any]) -> list[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


def _broken(environ: dict[str, Any], half: bytes) -> Iterator[bytes]:
    yield half
    _hung_up(environ)


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass
