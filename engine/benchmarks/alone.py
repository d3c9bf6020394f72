"""Parts measured in one process, without a cluster: the compute core against its rival, and the price of the evidence.

Every system has a network with an `encoder` and evidence that `explain.method` switches off. What is particular to a system is in
the module `benchmark` of its package; both names are optional:

    CORE = 3.0                         # how many times as fast as the rival the core must be
    def evidence(spec, folder):        # models whose evidence is priced: name -> (spec, the highest price allowed)
"""

import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from engine.benchmarks import images, rival
from engine.benchmarks.config import CORE, EVIDENCE, BenchConfig
from engine.benchmarks.corpus import LONG, as_records, sample
from engine.benchmarks.measure import AT_LEAST, AT_MOST, Measurement, interleave
from engine.models.base import Say, System, load, module_of
from engine.models.options import with_options, without_evidence
from engine.models.run import records_of
from engine.records import IMAGES

PIPELINE_TOKENS = 512


def compute_core(config: BenchConfig, _: Path, say: Say) -> list[Measurement]:
    """Prepare and run, against `transformers.pipeline` with the same encoder weights, on reports cut to 512 tokens.

    The pipeline reads each text once and has as many labels as the system's first task. It is measured at its fastest batch size
    here, in fp32 as it runs by default, and in bf16. A system whose checkpoint names no encoder has no such rival. One that reads
    images has others, see `images`.
    """
    if config.reads == IMAGES:
        return images.compute_core(config)
    import torch

    from engine.encoders import encoder_folder, pick_precision

    name = getattr(getattr(load(config.model), "config", None), "encoder", None)
    if name is None:
        say("core: left out, the system has no encoder that a pipeline could have too")
        return []
    system = load(without_evidence(with_options(config.model, max_tokens=PIPELINE_TOKENS - 2)))
    encoder = system.build(torch.float32).encoder
    labels = len(next(iter(system.known().values())))
    folder = str(encoder_folder(name))
    device = str(config.model.runtime.get("device", "cpu"))
    texts = rival.cut_texts(sample(config, config.core_reports, LONG)["text"].to_pylist(), folder, PIPELINE_TOKENS)
    records = records_of([f"bench-{number}" for number in range(len(texts))], texts)
    contenders: dict[str, Callable[[], object]] = {"engine": lambda: code(system, records)}
    some = texts[:: max(1, len(texts) // 64)]
    best: dict[str, int] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        pipe = rival.pipeline_of(encoder, labels, folder, dtype, device)
        rival.classify(pipe, some[:2], 1)
        seconds = {size: _seconds(lambda p=pipe, s=size: rival.classify(p, some, s)) for size in config.batch_sizes}
        best[name] = min(seconds, key=seconds.__getitem__)
        say(f"core: pipeline {name} is fastest with batch size {best[name]}")
        contenders[name] = lambda p=pipe, s=best[name]: rival.classify(p, texts, s)
    medians = interleave(contenders, config.repeats)
    precision = str(pick_precision(config.model.options.get("precision", "auto"), device)).removeprefix("torch.")
    speed = {name: len(texts) / seconds for name, seconds in medians.items()}
    target = getattr(module_of(config.model.system, "benchmark"), "CORE", None)
    return [
        Measurement(
            part=CORE,
            measured="compute core, reports cut to 512 tokens, no evidence",
            unit="reports/s",
            figure=speed["engine"],
            rival=f"transformers.pipeline {name}, batch {best[name]}",
            rival_figure=speed[name],
            repeats=config.repeats,
            setting=f"{len(texts)} {config.kind}; engine in {precision}",
            kind=AT_LEAST if name == "fp32" and target is not None else None,
            target=target if name == "fp32" else None,
        )
        for name in best
    ]


def evidence_price(config: BenchConfig, folder: Path, say: Say) -> list[Measurement]:
    """Prepare and run with evidence, against the same model without, on whole records; nothing for a system that has none."""
    records = as_records(sample(config, config.evidence_reports, LONG))
    evidence = getattr(module_of(config.model.system, "benchmark"), "evidence", None)
    specs = {"evidence": (config.model, None)} if evidence is None else evidence(config.model, folder)
    specs = {name: (spec, target) for name, (spec, target) in specs.items() if without_evidence(spec) != spec}
    if not specs:
        say("evidence: left out, the system gives none")
    contenders: dict[str, Callable[[], object]] = {}
    for name, (spec, _) in specs.items():
        systems = {f"on {name}": load(spec), f"off {name}": load(without_evidence(spec))}
        contenders |= {label: lambda s=system: code(s, records) for label, system in systems.items()}
    medians = interleave(contenders, config.repeats)
    return [
        Measurement(
            part=EVIDENCE,
            measured=name,
            unit="ms/record",
            figure=1000 * medians[f"on {name}"] / len(records),
            rival="the same without evidence",
            rival_figure=1000 * medians[f"off {name}"] / len(records),
            repeats=config.repeats,
            setting=f"{len(records)} {config.kind}, whole",
            kind=None if target is None else AT_MOST,
            target=target,
        )
        for name, (_, target) in specs.items()
    ]


def code(system: System, records: pa.Table) -> pa.Table:
    """The timed work of a system: both of its calls, one after the other, on one shard."""
    prepared = system.prepare(records)
    return system.run(prepared.filter(prepared["failure"].is_null()))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
