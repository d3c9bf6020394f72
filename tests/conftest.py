"""Shared fixtures: where the public data lies, and an environment without network."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.hub import Hub
    from tests.radiographs import Made
    from tests.store import Store

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# Every test has a time limit of its own; a single example may be slow on a busy machine.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public data, which stands beside a checkout but not beside a user's clone."""
    if not SHARED.is_dir():
        pytest.skip("needs the public data folder beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> "Made":
    """Made radiographs and a tiny model of them, in some ten seconds."""
    from tests.radiographs import make

    return make(tmp_path_factory.mktemp("radiographs"))


@pytest.fixture
def locked() -> Callable[[Path], list[Path]]:
    """Tells which files of a folder somebody has locked."""
    listing = Path("/proc/locks")
    if not listing.exists():
        pytest.skip("needs the kernel's list of locks")

    def tell(folder: Path) -> list[Path]:
        inodes = {int(line.split()[-3].split(":")[-1]) for line in listing.read_text().splitlines()}
        return [path for path in folder.rglob("*") if path.stat().st_ino in inodes]

    return tell


@pytest.fixture(scope="session")
def store() -> Iterator["Store"]:
    """An S3 service in this process, with credentials in the environment that it takes."""
    from tests.store import Store

    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_EC2_METADATA_DISABLED="true")
    running = Store()
    yield running
    running.stop()


@pytest.fixture
def bucket(store: "Store") -> Iterator[str]:
    """`s3://<new bucket>`, with this process set up for it."""
    from engine.storage import S3Config, s3_config, use_s3

    before = s3_config()
    name = store.new_bucket()
    use_s3(S3Config(endpoint=store.url, region="us-east-1", retry_seconds=20.0, timeout_seconds=10.0))
    store.reset()
    yield f"s3://{name}"
    store.reset()
    use_s3(before)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Hub"]:
    """A model hub in this process, with this process and those that it starts set up for it, and an empty cache."""
    from huggingface_hub import constants

    from tests.hub import Hub

    running = Hub()
    cache = tmp_path / "hub_cache"
    monkeypatch.setenv("HF_ENDPOINT", running.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    yield running
    running.stop()
