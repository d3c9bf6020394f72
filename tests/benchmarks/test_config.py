"""Nonsense in the settings of a benchmark is refused."""

import pytest

from engine.benchmarks.config import BenchConfig
from engine.errors import ConfigError


@pytest.mark.parametrize(
    "changed",
    [{"parts": ("speed",)}, {"s3_reports": 0}, {"parts": ()}, {"repeats": 0}, {"memory_reports": (5,)}, {"batch_sizes": ()}],
)
def test_nonsense_is_refused(spec, changed):
    with pytest.raises(ConfigError, match=r"bench\."):
        BenchConfig(spec, **changed)
