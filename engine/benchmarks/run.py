"""A system and its engine against their rivals: compute core, engine overhead, price of the evidence, memory, an object store.

Each part returns measurements with their targets. Both sides of a comparison have the same reports and the same weights, on the
same machine, in turns.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from engine.benchmarks import alone, child, store, whole
from engine.benchmarks.config import CORE, EVIDENCE, LOOP, MEMORY, PARTS, S3, BenchConfig
from engine.benchmarks.measure import Measurement
from engine.errors import ConfigError

# Parts within one process, which is a fresh one, and parts of whole runs, each a process.
_ALONE = {CORE: alone.compute_core, EVIDENCE: alone.evidence_price}
_WHOLE = {LOOP: whole.engine_overhead, MEMORY: whole.peak_memory, S3: whole.object_store}


def run(config: BenchConfig, say: Callable[[str], None] = lambda line: None) -> Iterator[list[Measurement]]:
    """The measurements of the chosen parts, part by part, so that finished ones can be stored.

    Raises:
        ConfigError: psutil or the work folder is missing, or moto where it is needed; or the input is too small.
    """
    if importlib.util.find_spec("psutil") is None:
        raise ConfigError("benchmarks need the package psutil; install it with: pip install psutil")
    if config.work is not None and not Path(config.work).is_dir():
        raise ConfigError(f"bench.work: {config.work} is no folder of this machine; make it, or leave it out")
    if S3 in config.parts:
        store.check_moto()
    for name in PARTS:
        if name in config.parts:
            say(f"{name}: measuring")
            with tempfile.TemporaryDirectory(prefix="marginalia-bench-", dir=config.work) as folder:
                if name in _ALONE:
                    print_now = partial(print, flush=True)
                    yield child.call(_ALONE[name], config, Path(folder), print_now, cluster=config.cluster)
                else:
                    yield _WHOLE[name](config, Path(folder), say)
