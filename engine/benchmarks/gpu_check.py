"""Checks that the product works on this machine's GPU as on a processor, and how fast: `python3 gpu_check.py` in its folder.

`python -m jobs.gpu_check` writes the folder: the product's core, its models, synthetic texts and radiographs, and a processor's
answers to them. The check needs torch, transformers and pyarrow, for systems that read images Pillow, and no network. Without a
GPU it checks the processor, on a few of the texts and images. It prints a table and writes `gpu_check.json`; the exit code is 1
if any check fails.

For each system it measures:

* whether the answers are those of the processor in fp32: codes, decisions, spans and findings equal, probabilities within 0.02.
  What lies nearer than that to a threshold may differ, and is counted
* tokens of text or images per second, and the share of the measured matrix peak that they use
* the cost of evidence, and the peak memory
* whether running out of memory fails only the text that is too long, or the study with too many images

What is particular to a system is in the module `gpu_check` of its package; both names are optional:

    def unsure(system, prepared, tolerance):    # row -> the columns, spans or findings so near to a threshold (see answer_of)
    def extra(system, prepared):                # further checks on the device: name -> whether it holds
"""

import gzip
import json
import os
import platform
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TOLERANCE = 0.02
MANIFEST, REPORT = "manifest.json", "gpu_check.json"
# Records, timed repetitions, and records beside the one that is too long: both checks must end within eight minutes.
ON_GPU, ON_PROCESSOR = (200, 5, 64), (4, 1, 3)
# Of a text and of a study that need too much memory, on a GPU and, where memory is made to run out, on a processor.
_LONG_TOKENS, _MANY_IMAGES = 16_000, {"cuda": 256, "cpu": 2}
IMAGES = "images"

Row = Mapping[str, Any]
Key = str | tuple
Payload = str | bytes | Sequence[bytes]


def main(folder: Path, output: Path) -> int:
    """Checks every system of a folder; returns the exit code."""
    import torch

    begun = time.perf_counter()
    # The models name their encoder by its path in this folder.
    os.chdir(folder)
    unpack(Path())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    peak = matrix_peak(device)
    report: dict[str, Any] = {"device": device_name(device), "torch": torch.__version__, "matrix_tflops": peak, "systems": {}}
    print(f"{report['device']}, torch {torch.__version__}, {peak:.4g} TFLOP/s in a matrix product", flush=True)
    for name in json.loads(Path(MANIFEST).read_text())["systems"]:
        report["systems"][name] = Check(Path(), name, device, peak).run()
        print("\n".join(lines(name, report["systems"][name])), flush=True)
    report["seconds"] = round(time.perf_counter() - begun, 1)
    report["passed"] = all(figures["passed"] for figures in report["systems"].values())
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{'passed' if report['passed'] else 'FAILED'} in {report['seconds']:.0f} s; {output}")
    return 0 if report["passed"] else 1


class Check:
    """One system on one device."""

    def __init__(self, folder: Path, name: str, device: str, peak: float) -> None:
        import pyarrow.parquet as pq

        from engine.models.base import ModelSpec, load
        from engine.models.options import without_evidence

        manifest = json.loads((folder / MANIFEST).read_text())
        self.count, self.repeats, self.few = ON_GPU if device == "cuda" else ON_PROCESSOR
        self.device, self.peak = device, peak
        about = manifest["systems"][name]
        records = pq.read_table(folder / about["records"]).slice(0, self.count)
        self.records: dict[str, Payload] = dict(zip(*(column.to_pylist() for column in records.columns), strict=True))
        self.expected = {row["record_id"]: row for row in pq.read_table(folder / f"{name}.parquet").to_pylist()}
        self.unsure = {name: {key_of(key) for key in keys} for name, keys in about["unsure"].items()}
        runtime = {"device": device, **(manifest["batches"] if device == "cuda" else {})}
        self.spec = ModelSpec(about["system"], name, {}, runtime)
        self.plain, self.with_evidence = load(without_evidence(self.spec)), load(self.spec)

    def run(self) -> dict[str, Any]:
        """The figures of the system, and whether each check holds."""
        from engine.models.base import module_of

        prepared = self.prepared(self.records)
        answers = difference(self.expected, self.rows(self.plain, self.records), self.unsure)
        count, seconds = self.timed(self.plain, prepared)
        figures = {
            **answers,
            f"{'images' if self.plain.reads == IMAGES else 'tokens'}_a_second": count / seconds,
            "share_of_peak": self.flops(prepared) / seconds / (self.peak * 1e12),
            "evidence_costs": self.timed(self.with_evidence, prepared)[1] / seconds,
            "memory_mib": self.memory(),
        }
        checks = {
            "the same answers": not answers["different"],
            f"probabilities within {TOLERANCE}": not answers["beyond"],
            "out of memory": self.exhausted(),
        }
        extra = getattr(module_of(self.spec.system, "gpu_check"), "extra", None)
        checks |= extra(self.plain, prepared) if extra is not None else {}
        return {**figures, "checks": checks, "passed": all(checks.values())}

    def prepared(self, records: Mapping[str, Payload]) -> Any:
        from engine.models.run import prepare

        return prepare(self.plain, source(self.plain.reads, records))[1]

    def rows(self, system: Any, records: Mapping[str, Payload]) -> dict[str, Row]:
        """The rows of the plain loop for records, by their ids."""
        import pyarrow as pa

        from engine.models.run import answer, prepare

        meta, prepared = prepare(self.plain, source(self.plain.reads, records))
        ids = dict(zip(meta["row"].to_pylist(), meta["record_id"].to_pylist(), strict=True))
        return {ids[row["row"]]: row for row in answer(system, prepared, pa.schema([])).to_pylist()}

    def timed(self, system: Any, prepared: Any) -> tuple[int, float]:
        """Tokens or images, and the median of the seconds that they take; on a GPU after one run without timing."""
        rows, times = (system.run(prepared) if self.device == "cuda" else None), []
        for _ in range(self.repeats):
            self.wait()
            begun = time.perf_counter()
            rows = system.run(prepared)
            self.wait()
            times.append(time.perf_counter() - begun)
        counts = map(len, rows[IMAGES].to_pylist()) if system.reads == IMAGES else rows["n_tokens"].to_pylist()
        return sum(counts), statistics.median(times)

    def flops(self, prepared: Any) -> int:
        """Operations in all matrix products and attentions of a run, padding included."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.plain.run(prepared)
        return counter.get_total_flops()

    def exhausted(self) -> bool:
        """Whether a record that needs too much memory fails alone, after batches with it were halved.

        On a GPU the memory is limited to a size between the needs of the longest record and of that one; on a processor it is
        made to run out.
        """
        from engine.models.base import load
        from engine.models.options import without_evidence

        records = dict(list(self.records.items())[: self.few])
        longest = max(records, key=lambda name: len(records[name]))
        endless = self.endless(list(records.values()))
        runtime = {**self.spec.runtime, "batch_tokens": 1 << 30, "batch_images": 1 << 30}
        spec = type(self.spec)(self.spec.system, self.spec.path, self.spec.options, runtime)
        if self.device == "cuda":
            system = Exhausted(load(without_evidence(spec)))
            needs = [self.need(system, {name: text}) for name, text in ((longest, records[longest]), ("endless", endless))]
            limit(sum(needs) / 2)
        else:
            system = Exhausted(self.plain, most=2, never=len(records))
        try:
            rows = self.rows(system, {**records, "endless": endless})
        finally:
            if self.device == "cuda":
                limit(None)
        failure = rows.pop("endless")["failure"]
        alone = failure is not None and failure["kind"] == "out_of_memory"
        return alone and system.times > 1 and not difference(self.expected, rows, self.unsure)["different"]

    def endless(self, records: Sequence[Any]) -> Payload:
        """A record that needs much more memory than the given ones."""
        if self.plain.reads == IMAGES:
            return [records[0]] * _MANY_IMAGES[self.device]
        text = " ".join(records)
        size = len(self.plain.tokenizer.encode(text, add_special_tokens=False).ids)
        return " ".join([text] * -(-_LONG_TOKENS // max(1, size)))

    def need(self, system: Any, records: Mapping[str, Payload]) -> int:
        """Bytes of a GPU that some records need, those of the models included."""
        import torch

        prepared = self.prepared(records)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        system.run(prepared)
        return torch.cuda.max_memory_reserved()

    def memory(self) -> float:
        """Peak memory of the GPU, or else of the process, in MiB."""
        import torch

        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    def wait(self) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()


class Exhausted:
    """A system that counts how often its memory ran out. With `most`, more rows than that, or the row `never`, exhaust it."""

    def __init__(self, system: Any, most: int | None = None, never: int | None = None) -> None:
        self.system, self.most, self.never, self.times = system, most, never, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.system, name)

    def run(self, prepared: Any) -> Any:
        import torch

        try:
            if self.most is not None and (len(prepared) > self.most or self.never in prepared["row"].to_pylist()):
                raise torch.OutOfMemoryError
            return self.system.run(prepared)
        except torch.OutOfMemoryError:
            self.times += 1
            raise


def limit(size: float | None) -> None:
    """Limits this process to so many bytes of the GPU; None gives it all."""
    import torch

    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1.0 if size is None else min(1.0, size / total))


def difference(expected: Mapping[str, Row], rows: Mapping[str, Row], unsure: Mapping[str, set[Key]]) -> dict[str, Any]:
    """How rows differ from the expected ones of the same ids.

    Args:
        unsure: the answers of each row that are close to a threshold, and may differ.
    Returns:
        The number of `rows`; `near`, the number with an unsure answer, and `near_differing`, of those that differ only there;
        `different`, the ids of those that differ elsewhere. Of the probabilities of equal and sure answers the number `compared`,
        the number `beyond` the tolerance, and the `largest` difference.
    """
    different, near_differing, distances = [], 0, [0.0]
    for name, row in rows.items():
        skip = unsure.get(name, set())
        (answers, probs), (expected_answers, expected_probs) = answer_of(row), answer_of(expected[name])
        if any(answers.get(key) != expected_answers.get(key) for key in {*answers, *expected_answers} - skip):
            different.append(name)
        else:
            near_differing += answers != expected_answers
            distances += [abs(probs[at] - expected_probs[at]) for at in probs if at in expected_probs and at[0] not in skip]
    return {
        "rows": len(rows),
        "near": sum(name in unsure for name in rows),
        "near_differing": near_differing,
        "different": different,
        "compared": len(distances) - 1,
        "beyond": sum(distance > TOLERANCE for distance in distances),
        "largest": max(distances),
    }


def answer_of(row: Row) -> tuple[dict[Key, Any], dict[tuple[Key, str], float]]:
    """The answers of a row that must be equal (decisions, codes, spans, findings and the kind of failure), and its probabilities,
    by the answer that each belongs to.

    The key of a code or decision is its column, of a span its (type, start, end), of a finding ("finding", name).
    """
    answers = {name: value for name, value in row.items() if name == "decision" or name.endswith(("_code", "_decision"))}
    probs = {(f"{task}_code", "prob"): row[f"{task}_prob"] for name in row if (task := name.removesuffix("_prob")) != name}
    for entity in row.get("entities") or ():
        span = key_of([entity[name] for name in ("type", "start", "end")])
        answers[span] = True
        probs |= {(span, name): entity[name] for name in entity if name.endswith("score")}
    for label in row.get("labels") or ():
        finding = ("finding", label["name"])
        # A finding without a threshold is not answered.
        answers |= {finding: (label["pred"], label["clear"])} if label["pred"] is not None else {}
        probs[finding, "prob"] = label["prob"]
    failure = row["failure"] and row["failure"]["kind"]
    return {**answers, "failure": failure}, {at: value for at, value in probs.items() if value is not None}


def source(reads: str, records: Mapping[str, Payload]) -> Any:
    """Texts, or the files of image studies, as the records of a source, by their ids."""
    from engine.models.run import image_records_of, records_of

    if reads == IMAGES:
        return image_records_of(records, ([data] if isinstance(data, bytes) else data for data in records.values()))
    return records_of(records, records.values())


def key_of(key: Any) -> Key:
    """The key of an answer, a column's name or a span, from JSON."""
    return key if isinstance(key, str) else tuple(key)


def matrix_peak(device: str) -> float:
    """TFLOP/s of a large matrix product, in bf16 where the device is fast at it; the best of fifty."""
    import torch

    from engine.encoders import pick_precision

    size = 8192 if device == "cuda" else 1024
    one, other = (torch.randn(size, size, device=device).to(pick_precision("auto", device)) for _ in range(2))

    def once() -> float:
        begun = time.perf_counter()
        one @ other
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    return 2 * size**3 / min(once() for _ in range(50)) / 1e12


def device_name(device: str) -> str:
    """The name of the graphics card or of the processor."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return platform.machine()


def unpack(folder: Path) -> None:
    """Unpacks the weights of the encoders."""
    for packed in sorted(folder.glob("*/*.gz")):
        whole = packed.with_suffix("")
        if not whole.exists():
            with gzip.open(packed) as source, open(f"{whole}.tmp", "wb") as file:
                shutil.copyfileobj(source, file, 2**20)
            os.replace(f"{whole}.tmp", whole)


def lines(name: str, figures: Mapping[str, Any]) -> Sequence[str]:
    """The figures of a system, to read."""
    noun, unit = ("images", "images") if "images_a_second" in figures else ("texts", "tokens of text")
    return [
        f"{name}:",
        f"  {figures['rows']} {noun}, {len(figures['different'])} different; {figures['near']} with something near a threshold, "
        f"of which {figures['near_differing']} differ in that; {figures['compared']} probabilities within "
        f"{figures['largest']:.4f}, {figures['beyond']} beyond {TOLERANCE}",
        f"  {figures[unit.split()[0] + '_a_second']:,.0f} {unit} a second, {figures['share_of_peak']:.1%} of the matrix peak, "
        f"with evidence {figures['evidence_costs']:.2f} times as long, {figures['memory_mib']:,.0f} MiB at most",
        *(f"  {'ok    ' if holds else 'FAILED'}  {check}" for check, holds in figures["checks"].items()),
    ]


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.exit(main(here, (Path(sys.argv[1]) if len(sys.argv) > 1 else here / REPORT).resolve()))
