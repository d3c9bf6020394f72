"""Measured on whole runs, in turns: the engine's cost over a plain loop, its peak memory, and what an object store costs."""

import shutil
import statistics
from dataclasses import asdict, replace
from pathlib import Path

from engine.benchmarks import child, store
from engine.benchmarks.config import LOOP, MEMORY, S3, BenchConfig
from engine.benchmarks.corpus import LONG_WORDS, SHORT_WORDS, made_up, reports, write
from engine.benchmarks.measure import AT_MOST, Measurement, turns
from engine.benchmarks.runs import Ran
from engine.models import checkpoint
from engine.models.base import ModelSpec, Say
from engine.models.options import without_evidence
from engine.sources import InputConfig

TARGETS = {LOOP: 1.10, MEMORY: 1.10, S3: 1.20}
"""What the engine may cost, whichever the system."""
_ENGINE, _PLAIN = "engine", "loop"


def engine_overhead(config: BenchConfig, folder: Path, say: Say) -> list[Measurement]:
    """The engine from its first committed shard to published tables, against a plain loop over the same shards.

    The engine's time is what follows the first receipt, plus what the plain loop needs for as many bytes as that shard had: so
    the start of the cluster and the loading of the model are left out on both sides, and nothing else is.
    """
    source = folder / "loop"
    write(source, [reports(config, config.loop_reports, LONG_WORDS)], rows=512)
    ran: dict[str, list[Ran]] = {_ENGINE: [], _PLAIN: []}
    for turn, what in turns(list(ran), config.loop_repeats):
        ran[what].append(_ran(what, config, source, folder / f"out-{turn}-{what}", config.model))
        say(f"loop: turn {turn + 1}, {what} took {ran[what][-1].seconds:.0f} s in all")
    nets = [
        engine.after_first + plain.seconds * engine.first_bytes / engine.bytes
        for engine, plain in zip(ran[_ENGINE], ran[_PLAIN], strict=True)
    ]
    plain = ran[_PLAIN][-1]
    return [
        Measurement(
            part=LOOP,
            measured="the engine, start-up apart, whole reports",
            unit="s",
            figure=statistics.median(nets),
            rival="plain Python loop around the same system",
            rival_figure=statistics.median(plain.seconds for plain in ran[_PLAIN]),
            repeats=config.loop_repeats,
            setting=f"{plain.records} {config.kind} reports, {plain.bytes / 2**20:.1f} MiB of text",
            kind=AT_MOST,
            target=TARGETS[LOOP],
        )
    ]


def peak_memory(config: BenchConfig, folder: Path, say: Say) -> list[Measurement]:
    """Peak memory of driver and workers for a large corpus against a small one, short synthetic reports, no evidence."""
    peaks = []
    for count in config.memory_reports:
        source, output = folder / f"memory-{count}", folder / f"memory-out-{count}"
        step = 2000
        write(source, (made_up(min(step, count - at), SHORT_WORDS, at) for at in range(0, count, step)), rows=step)
        ran = _ran(_ENGINE, config, source, output, without_evidence(config.model))
        say(f"memory: {count:,} reports, peak {ran.peak:.0f} MiB ({ran.driver:.0f} driver, {ran.workers:.0f} workers)")
        shutil.rmtree(source)
        shutil.rmtree(output)
        peaks.append(ran)
    small, large = peaks
    return [
        Measurement(
            part=MEMORY,
            measured=f"peak memory of {name}, {config.memory_reports[1]:,} reports",
            unit="MiB",
            figure=getattr(large, part),
            rival=f"{config.memory_reports[0]:,} reports",
            rival_figure=getattr(small, part),
            repeats=1,
            setting=f"synthetic reports of {SHORT_WORDS} words, no evidence",
            kind=kind,
            target=target,
        )
        for part, name, kind, target in (
            ("peak", "driver and workers", AT_MOST, TARGETS[MEMORY]),
            ("driver", "the driver", None, None),
        )
    ]


def object_store(config: BenchConfig, folder: Path, say: Say) -> list[Measurement]:
    """The whole job with input and output on S3, start and tables included, against the same job on a local disk.

    The store is moto's server on this machine: its answers come at once, and what it costs to work them out counts.
    """
    local = folder / "s3"
    # Who knows moto's service does not reach a model on the user's own.
    model = replace(config.model, path=str(checkpoint.read(config.model.path, config.model.system).folder))
    write(local / "in", [reports(config, config.s3_reports, SHORT_WORDS)], rows=512)
    ran: dict[str, list[Ran]] = {S3: [], "disk": []}
    requests = []
    with store.serving(folder) as service:
        for file in (local / "in").iterdir():
            service.put(f"in/{file.name}", file.read_bytes())
        for turn, place in turns(list(ran), config.loop_repeats):
            on, base = (service, store.BUCKET) if place == S3 else (None, local)
            before = service.requests
            ran[place].append(_ran(_ENGINE, config, f"{base}/in", f"{base}/out-{turn}", model, on))
            say(f"s3: turn {turn + 1}, on {place} it took {ran[place][-1].seconds:.0f} s")
            if place == S3:
                requests.append(1000 * (service.requests - before) / ran[S3][-1].records)
    return [
        Measurement(
            part=S3,
            measured="the job on S3, all included",
            unit="s",
            figure=statistics.median(each.seconds for each in ran[S3]),
            rival="the same on a local disk",
            rival_figure=statistics.median(each.seconds for each in ran["disk"]),
            repeats=config.loop_repeats,
            setting=f"{ran[S3][0].records} {config.kind} reports, {statistics.median(requests):.0f} requests for each 1,000",
            kind=AT_MOST,
            target=TARGETS[S3],
        )
    ]


def _ran(
    what: str,
    config: BenchConfig,
    source: str | Path,
    output: str | Path,
    spec: ModelSpec,
    service: store.Service | None = None,
) -> Ran:
    request = {
        "input": asdict(InputConfig(path=str(source), id="record_id", text="text")),
        "model": asdict(spec),
        "cluster": asdict(config.cluster),
        "output": str(output),
    }
    # The engine sets its actors' environment itself; its driver must have what a user's has.
    cluster = None if what == _ENGINE else config.cluster
    more = ({}, None) if service is None else ({"s3": asdict(service.s3)}, store.KEYS)
    return Ran(**child.measure(f"engine.benchmarks.runs:{what}", {**request, **more[0]}, cluster, more[1]))
