"""An S3 service on this machine to measure against: moto's server in a process of its own, its requests counted in its log."""

import importlib.util
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ConfigError, ContractError
from engine.storage import S3Config

BUCKET = "s3://bench"
# moto takes any keys; the user's own stay out of it.
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_SESSION_TOKEN": ""}
_START_SECONDS = 120


@dataclass(frozen=True)
class Service:
    """A running service with an empty bucket `BUCKET`."""

    url: str
    log: Path

    @property
    def s3(self) -> S3Config:
        return S3Config(endpoint=self.url, region="us-east-1")

    @property
    def requests(self) -> int:
        """The number of requests that it has answered."""
        return len(re.findall(r'^127\.0\.0\.1 - - .*"', self.log.read_text(errors="replace"), re.MULTILINE))

    def put(self, name: str, data: bytes) -> None:
        """Puts an object into the bucket, without a client library or keys in this process."""
        _put(f"{self.url}/{BUCKET.removeprefix('s3://')}/{name}", data)


def check_moto() -> None:
    """ConfigError if moto's server is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("moto", "flask")):
        raise ConfigError("bench.parts: s3 needs the package moto; install it with: pip install 'moto[server]', or leave s3 out")


@contextmanager
def serving(folder: Path) -> Iterator[Service]:
    """The service, for the block; its log is written to `folder`.

    Raises:
        ConfigError: moto is missing.
        ContractError: its server does not start.
    """
    check_moto()
    log = folder / "moto.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with open(log, "wb") as stderr:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        url = _url(server, log)
        _put(f"{url}/{BUCKET.removeprefix('s3://')}", b"")
        yield Service(url, log)
    finally:
        server.terminate()
        server.wait()


def _url(server: subprocess.Popen, log: Path) -> str:
    end = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < end:
        if match := re.search(r"Running on (http://\S+)", log.read_text(errors="replace")):
            return match[1]
        time.sleep(0.1)
    raise ContractError(f"benchmark: moto's server does not start (exit code {server.poll()})")


def _put(url: str, data: bytes) -> None:
    # Without the proxy that the environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, data, {"Content-Type": "binary/octet-stream"}, method="PUT"), timeout=60).close()
