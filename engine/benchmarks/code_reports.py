"""The main job against its rivals: compute core, engine overhead, price of the evidence, memory, and an object store.

Each part returns measurements with the target that it is held to. Everything within one comparison has the same reports and the
same weights, on the same machine, in turns.
"""

import importlib.util
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.benchmarks import child, rival, store
from engine.benchmarks.measure import AT_LEAST, AT_MOST, Measurement, interleave, turns
from engine.errors import ConfigError
from engine.models.base import ModelSpec, System, load
from engine.models.run import records_of
from engine.models.site_classifier.checkpoint import build_network, read_checkpoint, write_checkpoint
from engine.pipeline.config import ClusterConfig
from engine.records import seed_of, text_digest
from engine.sources import InputConfig
from engine.sources.synthetic import generate

CORE, LOOP, EVIDENCE, MEMORY, S3 = PARTS = (child.CORE, child.LOOP, child.EVIDENCE, "memory", "s3")
PIPELINE_TOKENS = 512
LONG_WORDS, SHORT_WORDS = 500, 100
TARGETS = {CORE: 3.0, LOOP: 1.10, EVIDENCE: (2.2, 3.4), MEMORY: 1.10, S3: 1.20}

Say = Callable[[str], None]


@dataclass(frozen=True)
class BenchConfig:
    """What is measured, and how large.

    `input` holds real reports (None: synthetic ones of about 500 words). `core_reports` and `evidence_reports` are in one batch
    of work; `loop_reports` go through the engine and the plain loop; `memory_reports` are the two corpora whose peaks are
    compared; `s3_reports` are coded on S3 and on a local disk. `repeats` counts interleaved repetitions of a part in this
    process, `loop_repeats` those of whole runs.
    """

    model: ModelSpec
    input: InputConfig | None = None
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    parts: Sequence[str] = PARTS
    core_reports: int = 256
    loop_reports: int = 5000
    evidence_reports: int = 128
    memory_reports: tuple[int, int] = (10_000, 100_000)
    s3_reports: int = 5000
    batch_sizes: Sequence[int] = (1, 8, 32)
    repeats: int = 3
    loop_repeats: int = 2
    work: str | None = None

    def __post_init__(self) -> None:
        unknown = set(self.parts) - set(PARTS)
        if unknown or not self.parts:
            raise ConfigError(f"bench.parts: {sorted(unknown)} unknown; name some of {', '.join(PARTS)}")
        sizes = ("core_reports", "loop_reports", "evidence_reports", "s3_reports", "repeats", "loop_repeats")
        small = [name for name in sizes if getattr(self, name) < 1]
        if (
            small
            or min(self.memory_reports, default=0) < 1
            or len(self.memory_reports) != 2
            or min(self.batch_sizes, default=0) < 1
        ):
            raise ConfigError(f"bench.{small[0] if small else 'memory_reports or batch_sizes'}: wants whole numbers from 1")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "BenchConfig":
        """The inverse of `to_json`."""
        given = values["input"]
        return cls(
            **{
                **values,
                "model": ModelSpec(**values["model"]),
                "input": InputConfig(**{**given, "keep": tuple(given["keep"])}) if given else None,
                "cluster": ClusterConfig(**values["cluster"]),
            }
        )


def run(config: BenchConfig, say: Say = lambda line: None) -> Iterator[list[Measurement]]:
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
    together = {LOOP: engine_overhead, MEMORY: peak_memory, S3: object_store}
    with tempfile.TemporaryDirectory(prefix="marginalia-bench-", dir=config.work) as folder:
        for name in PARTS:
            if name in config.parts:
                say(f"{name}: measuring")
                if name in together:
                    yield together[name](config, Path(folder), say)
                else:
                    yield [Measurement(**row) for row in child.measure(name, config.to_json(), config.cluster)]


def compute_core(config: BenchConfig, _: Path, say: Say) -> list[Measurement]:
    """Prepare and run, against `transformers.pipeline` with the same encoder weights, on reports cut to 512 tokens.

    The pipeline is measured at the batch size that is best for it here, in fp32 as it runs by default, and in bf16.
    """
    import torch

    from engine.encoders import encoder_folder, pick_precision

    checkpoint = read_checkpoint(config.model.path)
    encoder = build_network(checkpoint, torch.float32, "sdpa").encoder
    folder = str(encoder_folder(checkpoint.config.encoder))
    device = str(config.model.runtime.get("device", "cpu"))
    system = load(without_evidence(with_options(config.model, max_tokens=PIPELINE_TOKENS - 2)))
    texts = rival.cut_texts(reports(config, config.core_reports, LONG_WORDS)["text"].to_pylist(), folder, PIPELINE_TOKENS)
    records = records_of([f"bench-{number}" for number in range(len(texts))], texts)
    contenders: dict[str, Callable[[], object]] = {"engine": lambda: code(system, records)}
    sample = texts[:: max(1, len(texts) // 64)]
    best: dict[str, int] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        pipe = rival.pipeline_of(encoder, len(checkpoint.config.tasks[0].labels), folder, dtype, device)
        rival.classify(pipe, sample[:2], 1)
        seconds = {size: _seconds(lambda p=pipe, s=size: rival.classify(p, sample, s)) for size in config.batch_sizes}
        best[name] = min(seconds, key=seconds.__getitem__)
        say(f"core: pipeline {name} is fastest with batch size {best[name]}")
        contenders[name] = lambda p=pipe, s=best[name]: rival.classify(p, texts, s)
    taken = interleave(contenders, config.repeats)
    precision = str(pick_precision(config.model.options.get("precision", "auto"), device)).removeprefix("torch.")
    speed = {name: len(texts) / seconds for name, seconds in taken.items()}
    return [
        Measurement(
            part=CORE,
            measured="compute core, reports cut to 512 tokens, no evidence",
            unit="reports/s",
            figure=speed["engine"],
            rival=f"transformers.pipeline {name}, batch {best[name]}",
            rival_figure=speed[name],
            repeats=config.repeats,
            setting=f"{len(texts)} {_kind(config)} reports; engine in {precision}",
            kind=AT_LEAST if name == "fp32" else None,
            target=TARGETS[CORE] if name == "fp32" else None,
        )
        for name in best
    ]


def engine_overhead(config: BenchConfig, folder: Path, say: Say) -> list[Measurement]:
    """The engine from its first committed shard to published tables, against a plain loop over the same shards.

    The engine's time is what follows the first receipt, plus what the plain loop needs for as many bytes as that shard had: so
    the start of the cluster and the loading of the model are left out on both sides, and nothing else is.
    """
    source = folder / "loop"
    _write(source, [reports(config, config.loop_reports, LONG_WORDS)], rows=512)
    ran: dict[str, list[child.Ran]] = {child.ENGINE: [], child.LOOP: []}
    for turn, what in turns(list(ran), config.loop_repeats):
        ran[what].append(_child(what, config, source, folder / f"out-{turn}-{what}", config.model))
        say(f"loop: turn {turn + 1}, {what} took {ran[what][-1].seconds:.0f} s in all")
    nets = [
        engine.after_first + plain.seconds * engine.first_bytes / engine.bytes
        for engine, plain in zip(ran[child.ENGINE], ran[child.LOOP], strict=True)
    ]
    plain = ran[child.LOOP][-1]
    return [
        Measurement(
            part=LOOP,
            measured="the engine, start-up apart, whole reports",
            unit="s",
            figure=statistics.median(nets),
            rival="plain Python loop around the same system",
            rival_figure=statistics.median(plain.seconds for plain in ran[child.LOOP]),
            repeats=config.loop_repeats,
            setting=f"{plain.records} {_kind(config)} reports, {plain.bytes / 2**20:.1f} MiB of text",
            kind=AT_MOST,
            target=TARGETS[LOOP],
        )
    ]


def evidence_price(config: BenchConfig, folder: Path, say: Say) -> list[Measurement]:
    """Prepare and run with evidence, against the same model without, on whole reports: for one task and for two.

    The model with fewer tasks is the same checkpoint with the other tasks' pools and heads left out.
    """
    texts = reports(config, config.evidence_reports, LONG_WORDS)["text"].to_pylist()
    records = records_of([f"bench-{number}" for number in range(len(texts))], texts)
    tasks = read_checkpoint(config.model.path).config.tasks
    contenders: dict[str, Callable[[], object]] = {}
    counts = range(1, min(2, len(tasks)) + 1)
    for n in counts:
        spec = with_tasks(config.model, n, folder / f"tasks-{n}")
        systems = {f"on{n}": load(spec), f"off{n}": load(without_evidence(spec))}
        contenders |= {name: lambda s=system: code(s, records) for name, system in systems.items()}
    taken = interleave(contenders, config.repeats)
    return [
        Measurement(
            part=EVIDENCE,
            measured=f"evidence for {n} task{'s'[: n - 1]}: {', '.join(task.name for task in tasks[:n])}",
            unit="ms/report",
            figure=1000 * taken[f"on{n}"] / len(texts),
            rival="the same without evidence",
            rival_figure=1000 * taken[f"off{n}"] / len(texts),
            repeats=config.repeats,
            setting=f"{len(texts)} whole {_kind(config)} reports",
            kind=AT_MOST,
            target=TARGETS[EVIDENCE][n - 1],
        )
        for n in counts
    ]


def peak_memory(config: BenchConfig, folder: Path, say: Say) -> list[Measurement]:
    """Peak memory of driver and workers for a large corpus against a small one, short synthetic reports, no evidence."""
    peaks = []
    for count in config.memory_reports:
        source, output = folder / f"memory-{count}", folder / f"memory-out-{count}"
        step = 2000
        blocks = (
            generate(min(step, count - at), 11, start=at, median_words=SHORT_WORDS).select(["record_id", "text"])
            for at in range(0, count, step)
        )
        _write(source, blocks, rows=step)
        ran = _child(child.ENGINE, config, source, output, without_evidence(config.model))
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
    model = replace(config.model, path=str(read_checkpoint(config.model.path).folder))
    _write(local / "in", [reports(config, config.s3_reports, SHORT_WORDS)], rows=512)
    ran: dict[str, list[child.Ran]] = {S3: [], "disk": []}
    requests = []
    with store.serving(folder) as service:
        for file in (local / "in").iterdir():
            service.put(f"in/{file.name}", file.read_bytes())
        for turn, place in turns(list(ran), config.loop_repeats):
            on, base = (service, store.BUCKET) if place == S3 else (None, local)
            before = service.requests
            ran[place].append(_child(child.ENGINE, config, f"{base}/in", f"{base}/out-{turn}", model, on))
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
            setting=f"{ran[S3][0].records} {_kind(config)} reports, {statistics.median(requests):.0f} requests for each 1,000",
            kind=AT_MOST,
            target=TARGETS[S3],
        )
    ]


ALONE = {CORE: compute_core, EVIDENCE: evidence_price}
"""Parts that run in one process, without a cluster."""


def with_options(spec: ModelSpec, **changed: Any) -> ModelSpec:
    """The spec with some options replaced."""
    return replace(spec, options={**spec.options, **changed})


def without_evidence(spec: ModelSpec) -> ModelSpec:
    """The spec of the same system that gives no evidence."""
    return with_options(spec, method="none")


def with_tasks(spec: ModelSpec, count: int, folder: Path) -> ModelSpec:
    """The spec of the same checkpoint with only its first `count` tasks, written to `folder`."""
    from safetensors.torch import load_file

    whole = read_checkpoint(spec.path)
    kept, dropped = whole.config.tasks[:count], whole.config.tasks[count:]
    prefixes = tuple(f"{part}.{task.name}." for task in dropped for part in ("pools", "heads"))
    tensors = load_file(whole.folder / "model.safetensors")
    write_checkpoint(
        folder,
        replace(whole.config, tasks=kept),
        {name: value for name, value in tensors.items() if not name.startswith(prefixes)},
        {task.name: whole.calibration[task.name] for task in kept if task.name in whole.calibration},
        whole.evidence_method,
        whole.pairs,
        "A part of another checkpoint, for a benchmark.",
    )
    return replace(with_options(spec, tasks=(kept[0].name,), thresholds={}), path=str(folder))


def code(system: System, records: pa.Table) -> pa.Table:
    """What is timed of a system: both of its calls, one after the other, on one shard."""
    prepared = system.prepare(records)
    return system.run(prepared.filter(prepared["failure"].is_null()))


def reports(config: BenchConfig, count: int, words: int) -> pa.Table:
    """`record_id` and `text` of `count` reports: a sample of the input that depends on the texts alone, or synthetic ones.

    Raises:
        ConfigError: the input has too few readable reports.
    """
    if config.input is None:
        return generate(count, 11, median_words=words).select(["record_id", "text"])
    from engine import sources
    from engine.storage import storage_for

    reader = storage_for(config.input.path)
    files = list(sources.list_files(config.input, reader))
    found: dict[bytes, str] = {}
    for shard in sources.cut(config.input, reader, files, 8 * 2**20):
        texts = sources.read(config.input, reader, shard, [])["text"].to_pylist()
        found |= {text_digest(text): text for text in texts if text is not None}
    if len(found) < count:
        raise ConfigError(f"bench: the input has {len(found)} different readable reports, {count} are asked for; lower the sizes")
    chosen = sorted(found, key=lambda digest: seed_of(digest.hex(), "bench"))[:count]
    return pa.table(
        {"record_id": [f"bench-{i}" for i in range(count)], "text": pa.array([found[d] for d in chosen], pa.large_string())}
    )


def _write(folder: Path, tables: Sequence[pa.Table] | Iterator[pa.Table], rows: int) -> None:
    folder.mkdir(parents=True)
    writer = None
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(folder / "reports.parquet", table.schema)
            writer.write_table(table, row_group_size=rows)
    finally:
        if writer is not None:
            writer.close()


def _child(
    what: str,
    config: BenchConfig,
    source: str | Path,
    output: str | Path,
    spec: ModelSpec,
    service: store.Service | None = None,
) -> child.Ran:
    request = {
        "input": asdict(InputConfig(path=str(source), id="record_id", text="text")),
        "model": asdict(spec),
        "cluster": asdict(config.cluster),
        "output": str(output),
    }
    if service is None:
        return child.Ran(**child.measure(what, request, config.cluster))
    return child.Ran(**child.measure(what, {**request, "s3": asdict(service.s3)}, config.cluster, store.KEYS))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _kind(config: BenchConfig) -> str:
    return "synthetic" if config.input is None else "real"
