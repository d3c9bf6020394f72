"""A system and its engine against their rivals: compute core, engine overhead, price of the evidence, memory, an object store.

Each part returns measurements with the target that it is held to. Everything within one comparison has the same reports and the
same weights, on the same machine, in turns.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.benchmarks import child, store, whole
from engine.benchmarks.config import LOOP, MEMORY, PARTS, S3, BenchConfig
from engine.benchmarks.measure import Measurement
from engine.errors import ConfigError


def run(config: BenchConfig, say: Callable[[str], None] = lambda line: None) -> Iterator[list[Measurement]]:
    """The measurements of every part that is asked for, part by part, so that what is done can be kept.

    Raises:
        ConfigError: psutil is missing, or moto where it is needed, or the work folder; or the input is too small.
    """
    if importlib.util.find_spec("psutil") is None:
        raise ConfigError("benchmarks need the package psutil; install it with: pip install psutil")
    if config.work is not None and not Path(config.work).is_dir():
        raise ConfigError(f"bench.work: {config.work} is no folder of this machine; make it, or leave it out")
    if S3 in config.parts:
        store.check_moto()
    together = {LOOP: whole.engine_overhead, MEMORY: whole.peak_memory, S3: whole.object_store}
    with tempfile.TemporaryDirectory(prefix="marginalia-bench-", dir=config.work) as folder:
        for name in PARTS:
            if name in config.parts:
                say(f"{name}: measuring")
                if name in together:
                    yield together[name](config, Path(folder), say)
                else:
                    rows = child.measure(f"engine.benchmarks.alone:{name}", config.to_json(), config.cluster)
                    yield [Measurement(**row) for row in rows]
