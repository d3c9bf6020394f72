"""Experiments with prompts at the size of a test: tiny settings, and the figures of a whole run."""

import numpy as np

from engine.experiments.run import run

# Types that have templates: the made-up language's A and B under their names.
NAMES = {"A": "Disease", "B": "Chemical"}
TINY = {"encoder": "tiny:bert", "rank": 2, "window": 80, "match_width": 16, "shared_soft": 2, "type_soft": 1, "epochs": 1.0}
TINY |= {"batch": 8, "rounds": 20, "threads": 1, "precision": "fp32"}


def measured(experiment, folder):
    table = run(experiment, folder / "out", "command", lambda line: None)
    values = {(row["arm"], row["metric"]): row["value"] for row in table.to_pylist()}
    assert list(dict.fromkeys(row["arm"] for row in table.to_pylist())) == [arm.name for arm in experiment.arms()]
    assert all(value is None or np.isfinite(value) for value in values.values())
    return values
