"""The benchmark as a whole."""

import re

import pytest

from engine.benchmarks.config import CORE, EVIDENCE, LOOP, MEMORY, S3, BenchConfig
from engine.benchmarks.run import run
from engine.errors import ConfigError


@pytest.mark.parametrize("work", ["none", "s3://bucket/work"])
def test_the_folder_to_work_in_must_be_there(spec, work):
    with pytest.raises(ConfigError, match=r"^bench\.work: .* is no folder of this machine"):
        next(run(BenchConfig(spec, parts=(CORE,), work=work)))


@pytest.mark.long
def test_all_parts(config, tmp_path):
    """Every part, the engine and the plain loop in processes of their own."""
    rows = [row for part in run(config) for row in part]
    assert [row.part for row in rows] == [CORE, CORE, LOOP, EVIDENCE, EVIDENCE, MEMORY, MEMORY, S3]
    assert [row.target for row in rows] == [3.0, None, 1.10, 2.2, 3.4, 1.10, None, 1.20]
    assert rows[-3].figure > rows[-2].figure > 50
    # A run takes dozens of requests however small it is.
    assert int(re.search("24 synthetic reports, ([0-9]+) requests for each 1,000", rows[-1].setting)[1]) > 1000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_all_parts_of_a_system_that_reads_images(of_images):
    rows = [row for part in run(of_images) for row in part]
    assert [row.part for row in rows] == [*[CORE] * 6, LOOP, LOOP, EVIDENCE, *[MEMORY] * 4, S3]
    assert [row.measured for row in rows if row.part == LOOP] == [
        "the engine, start-up apart, images in Parquet",
        "the engine, start-up apart, an image a file",
    ]
    assert [row.target for row in rows if row.part == MEMORY] == [1.10, None, 1.10, None]
    assert rows[-1].setting.startswith("24 synthetic radiographs, ")


@pytest.mark.long
def test_all_parts_of_another_system(of_entities):
    rows = [row for part in run(of_entities) for row in part]
    assert [row.part for row in rows] == [CORE, CORE, LOOP, EVIDENCE, MEMORY, MEMORY, S3]
    assert [row.target for row in rows] == [None, None, 1.10, None, 1.10, None, 1.20]
