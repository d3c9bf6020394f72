"""What a text costs the product, from its tokens to its rows: parameters, operations, time and memory.

    cost.<field>    of `CostConfig`

Each number of texts at once is measured in a process of its own, since a process keeps the memory that it once had. Weights do
not change what encoder and heads cost, but how many pairs the match head sees and decoding sorts does: of an untrained model the
heads' biases are set so that as many words begin and end an answer as are marked.
"""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.benchmarks import child
from engine.benchmarks.memory import MEBI, PeakMemory, size_of
from engine.encoders import set_threads
from engine.errors import ContractError
from engine.models.base import ModelSpec
from engine.models.columns import list_values
from engine.models.entities.corpus import members_of
from engine.models.entities.spans import windows
from engine.models.prompt_mrc import load
from engine.models.prompt_mrc.checkpoint import load_tensors
from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.extractor import Extractor
from engine.models.prompt_mrc.network import collate
from engine.models.run import records_of
from engine.sources.labelled.splits import TEST
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.settings import options
from engine.studies.whole import UNTRAINED, Fitted


@dataclass(frozen=True)
class CostConfig:
    """The first `records` texts of test are read `repeats` times for the clock, one by one and `at_once` together, in batches of
    `batch_tokens` token places; with `separate` there is a pass of its own for each type."""

    records: int = 64
    repeats: int = 3
    at_once: int = 32
    batch_tokens: int = 4096
    separate: bool = False


def measure(model: Fitted, task: Task) -> Measured:
    """`parameters`, `trained_parameters`, `gflops_per_text` (matrix products, a mean over texts), and of texts alone and of many
    at once milliseconds a text (`p50`, `p95`) and the peak of memory in MiB above what was held before."""
    config, corpus = options(CostConfig, task, "cost"), model.corpus.corpus  # type: ignore[attr-defined]
    documents = [corpus.documents[member] for member in members_of(corpus, TEST)[: config.records]]
    runtime = {**model.spec.runtime, "batch_tokens": config.batch_tokens}
    spec, texts = replace(model.spec, runtime=runtime), [document.text for document in documents]
    # Marked mentions of the texts, where an untrained model's heads must be opened.
    marked = sum(span.type in corpus.types for document in documents for span in document.spans)
    opened = marked if task.settings.get(UNTRAINED) else None
    rows, n = [], len(documents)
    for at_once in dict.fromkeys((1, config.at_once)):
        costs = child.call(figures, spec, texts, opened, config.separate, config.repeats, at_once)
        if at_once == 1:
            rows += [Row(name, costs[name]) for name in ("parameters", "trained_parameters")]
            rows.append(Row("gflops_per_text", costs["flops"] / 1e9, n=n))
        part = "alone" if at_once == 1 else f"{at_once} at once"
        rows += [Row(f"ms_per_text_{name}", 1000 * costs[name], n=n, slice=part) for name in ("p50", "p95")]
        rows.append(Row("peak_mib", costs["peak"], slice=part, note="above what the process with the model held before"))
    return Measured(rows)


def figures(
    spec: ModelSpec, texts: Sequence[str], marked: int | None, separate: bool, repeats: int, at_once: int
) -> dict[str, float]:
    """Measures an extractor on some texts; for a fresh process.

    Args:
        marked: mentions marked in the texts, by which an untrained model's heads are opened; None for a trained one.
    """
    set_threads(spec.runtime["threads"])
    extractor = load(spec)
    if marked is not None:
        open_heads(extractor, texts, marked)
    return cost(extractor, texts, separate=separate, repeats=repeats, at_once=at_once)


def cost(
    extractor: Extractor, texts: Sequence[str], *, separate: bool = False, repeats: int = 3, at_once: int = 1
) -> dict[str, float]:
    """`parameters`, `trained_parameters`, `flops` a text, `p50` and `p95` in seconds a text, and `peak` in MiB.

    Prompts are encoded before, as a run does it once. Memory is watched in a first round, times are those of `repeats` further
    ones, operations are counted in a last one.

    Raises:
        ContractError: there is no text, or no repetition.
    """
    if not texts or min(repeats, at_once) < 1:
        raise ContractError("the cost of no text, or of no repetition, cannot be measured")
    plain = replace(extractor.options, evidence="none")
    wanted = [extractor.names[number] for number in extractor.types]
    asked = [(name,) for name in wanted] if separate and not extractor.config.is_tagger else [tuple(wanted)]
    runtime = {"batch_tokens": extractor.budget, "device": extractor.device}
    passes = [Extractor(extractor.checkpoint, replace(plain, types=types), runtime) for types in asked]
    for each in passes:
        each.network = extractor.network
        each.prompts  # noqa: B018 (encodes the prompts)
    groups = [texts[at : at + at_once] for at in range(0, len(texts), at_once)]
    prepared = [extractor.prepare(records_of(map(str, range(len(group))), group)) for group in groups]

    def run(table: pa.Table) -> None:
        for each in passes:
            each.run(table)

    peak, seconds = _peak(lambda: [run(table) for table in prepared], extractor.device), []
    for _ in range(repeats):
        for table, group in zip(prepared, groups, strict=True):
            begun = time.perf_counter()
            run(table)
            seconds.append((time.perf_counter() - begun) / len(group))
    counter = FlopCounterMode(display=False)
    with counter:
        for table in prepared:
            run(table)
    return {
        "parameters": sum(value.numel() for value in extractor.network.parameters()),
        "trained_parameters": sum(value.numel() for value in load_tensors(extractor.checkpoint).values()),
        "flops": counter.get_total_flops() / len(texts),
        "p50": statistics.median(seconds),
        "p95": statistics.quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0],
        "peak": peak,
    }


def _peak(work: Any, device: str) -> float:
    """MiB that some work takes at most, above what is held before: of the process, or of the GPU."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / MEBI
    before = size_of(psutil.Process())
    with PeakMemory(0.01) as memory:
        work()
    return max(0.0, memory.peak - before)


@torch.no_grad()
def open_heads(extractor: Extractor, texts: Sequence[str], marked: int) -> float:
    """Moves the heads' biases so that the share of words that is marked begins and ends an answer; returns that share.

    Args:
        marked: mentions in the texts.
    """
    network, config = extractor.network, extractor.config
    prepared = extractor.prepare(records_of(map(str, range(len(texts))), texts))
    words = sum(map(len, list_values(prepared["word_start"])))
    share = min(0.5, max(marked, 1) / max(1, words * len(config.types)))
    starts, ends = _logits(extractor, prepared)
    if config.is_tagger:
        network.tagger.bias.view(-1, 3)[:, 1] -= float(np.quantile(starts, 1 - share))
        return share
    for head, logits in ((network.start, starts), (network.end, ends)):
        head.bias -= float(np.quantile(logits, 1 - share)) - math.log(Decoding().start / (1 - Decoding().start))
    return share


def _logits(extractor: Extractor, prepared: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Logits of start at words' first pieces and of end at their last ones, under every type; of the tagger how far B lies above
    the other tags at a word's first piece, and nothing."""
    network, config, starts, ends = extractor.network, extractor.config, [], []
    for ids, word in zip(list_values(prepared["input_ids"]), list_values(prepared["word_of_token"]), strict=True):
        for window in windows(0, ids, word, config.window, config.overlap):
            contexts = collate([window], config.special).to(extractor.device)
            answers = network(contexts, [0] if config.is_tagger else list(range(len(config.types))))
            if answers.tags is not None:
                tags = answers.tags[0, : len(window)][torch.from_numpy(window.starts)].float()
                starts.append((tags[..., 1] - torch.maximum(tags[..., 0], tags[..., 2])).flatten().cpu().numpy())
                continue
            for logits, flags, into in ((answers.start, window.starts, starts), (answers.end, window.ends, ends)):
                into.append(logits[:, : len(window)].float().cpu().numpy()[:, flags].ravel())
    return np.concatenate(starts), np.concatenate(ends or starts)
