"""Shared fixtures: where the public data lies, and an environment without network."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public data, which stands beside a checkout but not beside a user's clone."""
    if not SHARED.is_dir():
        pytest.skip("needs the public data folder beside the checkout")
    return SHARED
