"""What extracting costs a document: parameters, operations, time and memory, beside a tagger and beside one pass a type."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil
import pyarrow as pa
import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.benchmarks.memory import MEBI, PeakMemory, size_of
from engine.errors import ContractError
from engine.models.prompt_mrc.checkpoint import load_tensors
from engine.models.prompt_mrc.extractor import Extractor
from engine.models.run import records_of


@dataclass(frozen=True)
class Cost:
    """What a document costs, without evidence and margins; from its tokens to its rows, match head and decoding included.

    `types` is how many were asked for. `parameters` are all of the network, `trained` those that its checkpoint holds. `flops`
    are floating-point operations of matrix products, a mean over documents; `p50` and `p95` are seconds a document. `peak` is MiB
    above what was held before: of the process, or of the GPU where the extractor runs on one.
    """

    types: int
    parameters: int
    trained: int
    flops: float
    p50: float
    p95: float
    peak: float


def cost(extractor: Extractor, texts: Sequence[str], *, separate: bool = False, repeats: int = 3, at_once: int = 1) -> Cost:
    """Measures an extractor over some documents. With `separate`, every type is asked for in a pass of its own.

    Prompts are encoded before, as a run does it once. Memory is watched in a first round, times are those of `repeats` further
    ones, operations are counted in a last one. A process keeps memory that it once had, so of another number `at_once` the peak
    is only right in another process.

    Args:
        at_once: documents given together; how many of their windows make a batch is the extractor's budget.
    Raises:
        ContractError: there is no document, or no repetition.
    """
    if not texts or min(repeats, at_once) < 1:
        raise ContractError("the cost of no document, or of no repetition, cannot be measured")
    plain = replace(extractor.options, evidence="none", margins=0.0)
    wanted = [extractor.names[number] for number in extractor.types]
    asked = [(name,) for name in wanted] if separate and not extractor.config.is_tagger else [tuple(wanted)]
    runtime = {"batch_tokens": extractor.budget, "device": extractor.device}
    passes = [Extractor(extractor.checkpoint, replace(plain, types=types), runtime) for types in asked]
    for each in passes:
        each.network = extractor.network
        each.asked  # noqa: B018 (encodes the prompts)
    named = [(f"document {number}", text) for number, text in enumerate(texts)]
    groups = [dict(named[at : at + at_once]) for at in range(0, len(texts), at_once)]
    prepared = [(extractor.prepare(records_of(group, group.values())), len(group)) for group in groups]
    peak = _peak(passes, [table for table, _ in prepared], extractor.device)
    taken = []
    for _ in range(repeats):
        for table, count in prepared:
            begun = time.perf_counter()
            _run(passes, table)
            taken.append((time.perf_counter() - begun) / count)
    counter = FlopCounterMode(display=False)
    with counter:
        for table, _ in prepared:
            _run(passes, table)
    return Cost(
        types=len(wanted),
        parameters=sum(value.numel() for value in extractor.network.parameters()),
        trained=sum(value.numel() for value in load_tensors(extractor.checkpoint).values()),
        flops=counter.get_total_flops() / len(texts),
        p50=statistics.median(taken),
        p95=statistics.quantiles(taken, n=20, method="inclusive")[-1] if len(taken) > 1 else taken[0],
        peak=peak,
    )


def _peak(passes: Sequence[Extractor], tables: Sequence[pa.Table], device: str) -> float:
    """MiB that a round over the documents takes at most, above what is held before."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        for table in tables:
            _run(passes, table)
        return (torch.cuda.max_memory_allocated(device) - before) / MEBI
    before = size_of(psutil.Process())
    with PeakMemory(0.01) as memory:
        for table in tables:
            _run(passes, table)
    return max(0.0, memory.peak - before)


def _run(passes: Sequence[Extractor], table: pa.Table) -> None:
    for each in passes:
        each.run(table)
