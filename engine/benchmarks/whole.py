"""Parts measured on whole runs, in turns: the engine's cost over a plain loop, its peak memory, the cost of an object store."""

import shutil
import statistics
from dataclasses import replace
from pathlib import Path

from engine.benchmarks import child, runs, store
from engine.benchmarks.config import LOOP, MEMORY, S3, BenchConfig
from engine.benchmarks.corpus import FILES, LONG, PARQUET, SHORT, input_of, pieces, sample, write
from engine.benchmarks.measure import AT_MOST, Measurement, turns
from engine.benchmarks.runs import RunCost
from engine.models import checkpoint
from engine.models.base import ModelSpec, Say
from engine.models.options import without_evidence
from engine.pipeline.config import RunConfig
from engine.records import IMAGES
from engine.storage import s3_config

TARGETS = {LOOP: 1.10, MEMORY: 1.10, S3: 1.20}
"""What the engine may cost, with any system."""


def engine_overhead(config: BenchConfig, folder: Path, say: Say) -> list[Measurement]:
    """The engine from its first committed shard to published tables, against a plain loop over the same shards.

    The engine's time is what follows the first receipt, plus the plain loop's time for as many bytes as that shard had. So the
    start of the cluster and the loading of the model are left out on both sides, and nothing else is.
    """
    records, rows = sample(config, config.loop_reports, LONG), []
    for form in _forms(config):
        write(folder / form, [records], rows=512, form=form)
        rows.append(_overhead(config, folder, form, say))
    return rows


def _overhead(config: BenchConfig, folder: Path, form: str, say: Say) -> Measurement:
    contenders = {"engine": _engine, "loop": _plain_loop}
    costs: dict[str, list[RunCost]] = {name: [] for name in contenders}
    for turn, name in turns(list(contenders), config.loop_repeats):
        output = folder / f"out-{form}-{turn}-{name}"
        costs[name].append(contenders[name](_run_config(config, folder / form, output, config.model, form)))
        say(f"loop: turn {turn + 1}, {name} took {costs[name][-1].seconds:.0f} s in all")
    pairs = list(zip(costs["engine"], costs["loop"], strict=True))
    plain = costs["loop"][-1]
    return Measurement(
        part=LOOP,
        measured=f"the engine, start-up apart, {_stored(config, form) or 'whole reports'}",
        unit="s",
        figure=statistics.median(
            engine.after_first + plain.seconds * engine.first_bytes / engine.bytes for engine, plain in pairs
        ),
        rival="plain Python loop around the same system",
        rival_figure=statistics.median(plain.seconds for _, plain in pairs),
        repeats=config.loop_repeats,
        setting=f"{plain.records} {config.kind}, {plain.bytes / 2**20:.1f} MiB",
        kind=AT_MOST,
        target=TARGETS[LOOP],
    )


def peak_memory(config: BenchConfig, folder: Path, say: Say) -> list[Measurement]:
    """Peak memory of driver and workers for a large corpus against a small one, short synthetic records, no evidence."""
    return [row for form in _forms(config) for row in _memory(config, folder, form, say)]


def _memory(config: BenchConfig, folder: Path, form: str, say: Say) -> list[Measurement]:
    costs = []
    for count in config.memory_reports:
        source, output = folder / f"records-{count}", folder / f"out-{count}"
        write(source, pieces(config.reads, count, SHORT), rows=2000, form=form)
        cost = _engine(_run_config(config, source, output, without_evidence(config.model), form))
        say(f"memory: {count:,} records, peak {cost.peak:.0f} MiB ({cost.driver:.0f} driver, {cost.workers:.0f} workers)")
        shutil.rmtree(source)
        shutil.rmtree(output)
        costs.append(cost)
    small, large = costs
    noun, stored = config.kind.split()[-1], _stored(config, form)
    size = f"{SHORT.pixels} pixels" if stored else f"{SHORT.words} words"
    return [
        Measurement(
            part=MEMORY,
            measured=f"peak memory of {name}, {config.memory_reports[1]:,} {noun}{stored and f', {stored}'}",
            unit="MiB",
            figure=getattr(large, part),
            rival=f"{config.memory_reports[0]:,} {noun}",
            rival_figure=getattr(small, part),
            repeats=1,
            setting=f"synthetic {noun} of {size}, no evidence",
            kind=kind,
            target=target,
        )
        for part, name, kind, target in (
            ("peak", "driver and workers", AT_MOST, TARGETS[MEMORY]),
            ("driver", "the driver", None, None),
        )
    ]


def object_store(config: BenchConfig, folder: Path, say: Say) -> list[Measurement]:
    """The whole job with input and output on S3, start-up and tables included, against the same job on a local disk.

    The store is moto's server on this machine: it answers at once, and the work of answering counts.
    """
    # A process that reaches moto's service does not reach a model on the user's own.
    model = replace(config.model, path=str(checkpoint.read(config.model.path, config.model.system).folder))
    write(folder / "in", [sample(config, config.s3_reports, SHORT)], rows=512)
    costs: dict[str, list[RunCost]] = {S3: [], "disk": []}
    requests = []
    with store.serving(folder) as service:
        for file in (folder / "in").iterdir():
            service.put(f"in/{file.name}", file.read_bytes())
        for turn, place in turns(list(costs), config.loop_repeats):
            base, on_s3 = (store.BUCKET, service) if place == S3 else (folder, None)
            before = service.requests
            costs[place].append(_engine(_run_config(config, f"{base}/in", f"{base}/out-{turn}", model), on_s3))
            say(f"s3: turn {turn + 1}, on {place} it took {costs[place][-1].seconds:.0f} s")
            if place == S3:
                requests.append(1000 * (service.requests - before) / costs[S3][-1].records)
    return [
        Measurement(
            part=S3,
            measured="the job on S3, all included",
            unit="s",
            figure=statistics.median(cost.seconds for cost in costs[S3]),
            rival="the same on a local disk",
            rival_figure=statistics.median(cost.seconds for cost in costs["disk"]),
            repeats=config.loop_repeats,
            setting=f"{costs[S3][0].records} {config.kind}, {statistics.median(requests):.0f} requests for each 1,000",
            kind=AT_MOST,
            target=TARGETS[S3],
        )
    ]


def _engine(config: RunConfig, service: store.Service | None = None) -> RunCost:
    """The engine sets its actors' environment itself; its driver gets that of a user's command."""
    if service is None:
        return child.call(runs.engine, config)
    return child.call(runs.engine, replace(config, s3=service.s3), s3=service.s3, environment=store.KEYS)


def _plain_loop(config: RunConfig) -> RunCost:
    return child.call(runs.loop, config, cluster=config.cluster)


def _run_config(config: BenchConfig, source: str | Path, output: str | Path, model: ModelSpec, form: str = PARQUET) -> RunConfig:
    return RunConfig(input_of(config.reads, str(source), form), model, str(output), config.cluster, s3=s3_config())


def _forms(config: BenchConfig) -> tuple[str, ...]:
    """How the records are stored, one after the other."""
    return (PARQUET, FILES) if config.reads == IMAGES else (PARQUET,)


def _stored(config: BenchConfig, form: str) -> str:
    """How images are stored, in words; empty for texts."""
    if config.reads != IMAGES:
        return ""
    return "images in Parquet" if form == PARQUET else "an image a file"
