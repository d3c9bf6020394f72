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
# A user without a name or a right, as Kubernetes and OpenShift have them.
STRANGER = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    run = subprocess.run([hadolint, "--no-color", DOCKERFILE], stdout=subprocess.PIPE, text=True)
    assert (run.returncode, run.stdout) == (0, "")


def test_every_package_of_the_image_but_torch_for_cpus_has_a_hash() -> None:
    for name in ("requirements.lock", "requirements-gpu.lock", "requirements-dev.lock"):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(r"[\w.-]+==[\w.]+( --hash=sha256:[0-9a-f]{64})+|torch==[\d.]+\+cpu", line), line[:80]


@pytest.fixture
def built() -> Iterator[Path]:
    """A folder with what the build of the image is given, after the steps of its stage for CPUs."""
    folder = Path(tempfile.mkdtemp(prefix="image"))
    given = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    files = subprocess.run(["git", "ls-files", "-z", "--", *given], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    for name in files.stdout.strip("\0").split("\0"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    stage = DOCKERFILE.read_text().split("FROM build AS build-cpu\n")[1].split("\n\n")[0]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS")}
    for step in re.findall(r"^RUN (.*)$", stage, re.MULTILINE):
        subprocess.run(["sh", "-ec", step], cwd=folder, env=environment, check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_steps_of_the_build_end_with_a_product_that_codes_reports(built: Path) -> None:
    scratch = Path(tempfile.mkdtemp(dir=built, prefix="s"))
    environment = {"PATH": f"{built}/.venv/bin:/usr/bin:/bin", "USER": "marginalia", "HF_HUB_OFFLINE": "1"}
    environment |= {"HOME": str(scratch), "TMPDIR": str(scratch), "RAY_TMPDIR": str(scratch)}
    check = [*STRANGER, built / "infra" / "docker" / "check.sh", "explain=none"]
    run = subprocess.run(check, cwd="/", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0 and "Coded 20 records in " in run.stdout, run.stdout
