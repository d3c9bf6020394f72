"""Settings of a benchmark travel, and nonsense is refused."""

import json
from dataclasses import replace

import pytest

from engine.benchmarks.config import CORE, BenchConfig
from engine.errors import ConfigError
from engine.sources import InputConfig


def test_settings_travel_as_plain_values(config):
    config = replace(config, input=InputConfig("a", id=None, keep=("b",)), parts=[CORE])
    back = BenchConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert (back.model, back.input, back.cluster, back.core_reports) == (config.model, config.input, config.cluster, 4)
    assert back.kind == "real" and replace(back, input=None).kind == "synthetic"


@pytest.mark.parametrize(
    "changed",
    [{"parts": ("speed",)}, {"s3_reports": 0}, {"parts": ()}, {"repeats": 0}, {"memory_reports": (5,)}, {"batch_sizes": ()}],
)
def test_nonsense_is_refused(spec, changed):
    with pytest.raises(ConfigError, match=r"bench\."):
        BenchConfig(spec, **changed)
