"""What extracting costs a document: parameters, operations, time and memory, beside a tagger and beside one pass a type."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from torch.utils.flop_counter import FlopCounterMode

from engine.benchmarks.memory import PeakMemory, size_of
from engine.errors import ContractError
from engine.models.prompt_mrc.checkpoint import load_tensors
from engine.models.prompt_mrc.extractor import Extractor
from engine.records import records_schema


@dataclass(frozen=True)
class Cost:
    """What a document costs, each alone in its batch, without evidence and margins.

    `types` is how many were asked for. `parameters` are all of the network, `trained` those that its checkpoint holds. `flops`
    are floating-point operations of matrix products, a mean over documents; `p50` and `p95` are seconds, `peak` is MiB above what
    the process held before.
    """

    types: int
    parameters: int
    trained: int
    flops: float
    p50: float
    p95: float
    peak: float


def cost(extractor: Extractor, texts: Sequence[str], *, separate: bool = False, repeats: int = 3) -> Cost:
    """Measures an extractor over some documents. With `separate`, every type is asked for in a pass of its own.

    Prompts are encoded before, as a run does it once. Operations are counted in a pass that is not timed.

    Raises:
        ContractError: there is no document, or no repetition.
    """
    if not texts or repeats < 1:
        raise ContractError("the cost of no document, or of no repetition, cannot be measured")
    plain = replace(extractor.options, evidence="none", margins=0.0)
    wanted = [extractor.names[number] for number in extractor.types]
    asked = [(name,) for name in wanted] if separate and not extractor.config.is_tagger else [tuple(wanted)]
    runtime = {"batch_tokens": extractor.budget, "device": extractor.device}
    passes = [Extractor(extractor.checkpoint, replace(plain, types=types), runtime) for types in asked]
    for each in passes:
        each.network = extractor.network
        each.asked  # noqa: B018 (encodes the prompts)
    documents = [extractor.prepare(_record(text)) for text in texts]
    counter = FlopCounterMode(display=False)
    with counter:
        for document in documents:
            _run(passes, document)
    import psutil

    before, taken = size_of(psutil.Process()), []
    with PeakMemory(0.01) as memory:
        for _ in range(repeats):
            for document in documents:
                begun = time.perf_counter()
                _run(passes, document)
                taken.append(time.perf_counter() - begun)
    return Cost(
        types=len(wanted),
        parameters=sum(value.numel() for value in extractor.network.parameters()),
        trained=sum(value.numel() for value in load_tensors(extractor.checkpoint).values()),
        flops=counter.get_total_flops() / len(documents),
        p50=statistics.median(taken),
        p95=statistics.quantiles(taken, n=20, method="inclusive")[-1] if len(taken) > 1 else taken[0],
        peak=max(0.0, memory.peak - before),
    )


def _run(passes: Sequence[Extractor], document: pa.Table) -> None:
    for each in passes:
        each.run(document)


def _record(text: str) -> pa.Table:
    record = {"row": 0, "record_id": "document", "source": "", "position": 0, "text": text, "failure": None, "keep": {}}
    return pa.Table.from_pylist([record], schema=records_schema())
