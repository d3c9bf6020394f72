"""The toy system of findings, with and without bounds."""

import pytest

from engine.models.base import ModelSpec
from engine.models.findings.decide import FindingCalibration
from tests.toys import seen

# Bright: logit 4 max - 2 has probability 0.5 at a maximum of 0.5, and is unclear from 0.3 to 0.7; the others have one cut.
BOUNDS = {
    "Bright": FindingCalibration(threshold=0.5, lower=0.3, upper=0.7, positives=80, negatives=90),
    "Wide": FindingCalibration().at(0.6),
    "No Finding": FindingCalibration().at(0.5),
}


@pytest.fixture(scope="session")
def bounded(tmp_path_factory):
    return seen.write(tmp_path_factory.mktemp("seen") / "bounded", BOUNDS)


@pytest.fixture(scope="session")
def unbounded(tmp_path_factory):
    return seen.write(tmp_path_factory.mktemp("seen") / "unbounded", dict.fromkeys(seen.NAMES, FindingCalibration(threshold=0.5)))


@pytest.fixture(scope="session")
def partly(tmp_path_factory):
    """A model that has no threshold for Wide."""
    bounds = {**BOUNDS, "Wide": FindingCalibration(), "No Finding": FindingCalibration().at(0.9)}
    return seen.write(tmp_path_factory.mktemp("seen") / "partly", bounds)


def spec_of(folder, **options):
    return ModelSpec("tests.toys.seen", str(folder), {"precision": "fp32", **options}, {"threads": 1})


def load(folder, **options):
    return seen.load(spec_of(folder, **options))
