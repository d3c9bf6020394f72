"""Whether the product works on this machine's GPU as on a processor, and how fast: `python3 gpu_check.py` beside its folder.

The folder, as `python -m jobs.gpu_check` writes it, has the product's core, its models, texts that are made up, and the answers
of a processor to them. Needed are torch, transformers and pyarrow; no network is used. Without a GPU the processor is checked, on
few of the texts. A table is printed and `gpu_check.json` written; the exit code is 1 where something is not as it should be.

For each system: whether its answers are those of the processor in fp32 (codes, decisions and spans equal, probabilities within
0.02; what lies nearer than that to a threshold may differ, and is counted), tokens of text a second, which share of the measured
matrix peak that is, what evidence costs, the most memory, and whether running out of memory costs only the text that is too long.
What a system alone can say is the module `gpu_check` of its package, both of whose names are optional:

    def unsure(system, prepared, tolerance):    # row -> the columns or spans (type, start, end) that lie so near a threshold
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TOLERANCE = 0.02
MANIFEST, TEXTS, REPORT = "manifest.json", "texts.parquet", "gpu_check.json"
# Texts, repetitions of what is timed, and texts beside one that is too long: all must end within eight minutes, here and there.
ON_GPU, ON_PROCESSOR = (200, 5, 64), (4, 1, 3)
_LONG_TOKENS = 16_000

Row = Mapping[str, Any]
Key = str | tuple


def main(folder: Path, output: Path) -> int:
    """Checks every system of a folder; returns the exit code."""
    import torch

    begun = time.perf_counter()
    # The models name their encoder by its place in this folder.
    os.chdir(folder)
    unpack(Path())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    peak = matrix_peak(device)
    report: dict[str, Any] = {"device": name_of(device), "torch": torch.__version__, "matrix_tflops": peak, "systems": {}}
    print(f"{report['device']}, torch {torch.__version__}, {peak:.4g} TFLOP/s in a matrix product", flush=True)
    for name in json.loads(Path(MANIFEST).read_text())["systems"]:
        report["systems"][name] = Check(Path(), name, device, peak).run()
        print("\n".join(lines(name, report["systems"][name])), flush=True)
    report["seconds"] = round(time.perf_counter() - begun, 1)
    report["passed"] = all(each["passed"] for each in report["systems"].values())
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{'passed' if report['passed'] else 'FAILED'} in {report['seconds']:.0f} s; {output}")
    return 0 if report["passed"] else 1


class Check:
    """One system on one device."""

    def __init__(self, folder: Path, name: str, device: str, peak: float) -> None:
        import pyarrow.parquet as pq

        from engine.models.base import ModelSpec, load
        from engine.models.options import without_evidence

        given = json.loads((folder / MANIFEST).read_text())
        self.count, self.repeats, self.few = ON_GPU if device == "cuda" else ON_PROCESSOR
        self.device, self.peak = device, peak
        texts = pq.read_table(folder / TEXTS).slice(0, self.count).to_pylist()
        self.texts = {each["record_id"]: each["text"] for each in texts}
        self.expected = {row["record_id"]: row for row in pq.read_table(folder / f"{name}.parquet").to_pylist()}
        self.unsure = {name: {key_of(key) for key in keys} for name, keys in given["systems"][name]["unsure"].items()}
        runtime = {"device": device, **({"batch_tokens": given["batch_tokens"]} if device == "cuda" else {})}
        self.spec = ModelSpec(given["systems"][name]["system"], name, {}, runtime)
        self.plain, self.told = load(without_evidence(self.spec)), load(self.spec)

    def run(self) -> dict[str, Any]:
        """The figures of the system, and for each check whether it holds."""
        from engine.models.base import module_of

        prepared = self.prepared(self.texts)
        answers = difference(self.expected, self.rows(self.plain, self.texts), self.unsure)
        tokens, seconds = self.timed(self.plain, prepared)
        flops = self.flops(prepared)
        with_evidence = self.timed(self.told, prepared)[1]
        figures = {
            **answers,
            "tokens_a_second": tokens / seconds,
            "share_of_peak": flops / seconds / (self.peak * 1e12),
            "evidence_costs": with_evidence / seconds,
            "memory_mib": self.memory(),
        }
        checks = {
            "the same answers": not answers["different"],
            f"probabilities within {TOLERANCE}": not answers["beyond"],
            "out of memory": self.exhausted(),
        }
        own = getattr(module_of(self.spec.system, "gpu_check"), "extra", None)
        checks |= own(self.plain, prepared) if own is not None else {}
        return {**figures, "checks": checks, "passed": all(checks.values())}

    def prepared(self, texts: Mapping[str, str]) -> Any:
        from engine.models.run import prepare, records_of

        return prepare(self.plain, records_of(texts, texts.values()))[1]

    def rows(self, system: Any, texts: Mapping[str, str]) -> dict[str, Row]:
        """What the plain loop makes of some texts, by their ids."""
        import pyarrow as pa

        from engine.models.run import answer, prepare, records_of

        meta, prepared = prepare(self.plain, records_of(texts, texts.values()))
        ids = dict(zip(meta["row"].to_pylist(), meta["record_id"].to_pylist(), strict=True))
        return {ids[row["row"]]: row for row in answer(system, prepared, pa.schema([])).to_pylist()}

    def timed(self, system: Any, prepared: Any) -> tuple[int, float]:
        """Tokens of text, and the median of the seconds they take."""
        rows, taken = (system.run(prepared), []) if self.device == "cuda" else (None, [])
        for _ in range(self.repeats):
            self.wait()
            begun = time.perf_counter()
            rows = system.run(prepared)
            self.wait()
            taken.append(time.perf_counter() - begun)
        return sum(rows["n_tokens"].to_pylist()), statistics.median(taken)

    def flops(self, prepared: Any) -> int:
        """Operations of all matrix products and attentions of a run, padding included."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.plain.run(prepared)
        return counter.get_total_flops()

    def exhausted(self) -> bool:
        """Whether a text that needs more memory than there is fails alone, after the others were tried in halves.

        On a GPU memory is limited to what lies between the needs of two texts; a processor's is made to run out.
        """
        from engine.models.base import load
        from engine.models.options import without_evidence

        texts = dict(list(self.texts.items())[: self.few])
        longest = max(texts, key=lambda name: len(texts[name]))
        endless = " ".join(texts.values())
        size = len(self.plain.tokenizer.encode(endless, add_special_tokens=False).ids)
        endless = " ".join([endless] * -(-_LONG_TOKENS // max(1, size)))
        runtime = {**self.spec.runtime, "batch_tokens": 1 << 30}
        spec = type(self.spec)(self.spec.system, self.spec.path, self.spec.options, runtime)
        system = Exhausted(load(without_evidence(spec)) if self.device == "cuda" else self.plain)
        if self.device == "cuda":
            needs = [self.need(system, {name: text}) for name, text in ((longest, texts[longest]), ("endless", endless))]
            limit(sum(needs) / 2)
        else:
            system.most, system.never = 2, len(texts)
        try:
            rows = self.rows(system, {**texts, "endless": endless})
        finally:
            if self.device == "cuda":
                limit(None)
        failure = rows.pop("endless")["failure"]
        alone = failure is not None and failure["kind"] == "out_of_memory"
        return alone and system.times > 1 and not difference(self.expected, rows, self.unsure)["different"]

    def need(self, system: Any, texts: Mapping[str, str]) -> int:
        """Bytes that a GPU must give for some texts, those of the models included."""
        import torch

        prepared = self.prepared(texts)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        system.run(prepared)
        return torch.cuda.max_memory_reserved()

    def memory(self) -> float:
        """MiB: the most that was held on the GPU, or by the process."""
        import torch

        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    def wait(self) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()


class Exhausted:
    """A system that counts how often its memory ran out; with `most`, it has none for more rows than that, or for the row
    `never`."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self.most: int | None = None
        self.never: int | None = None
        self.times = 0

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
    """Lets this process have so many bytes of the GPU; None is all of it."""
    import torch

    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1.0 if size is None else min(1.0, size / total))


def difference(expected: Mapping[str, Row], given: Mapping[str, Row], unsure: Mapping[str, set[Key]]) -> dict[str, Any]:
    """How answers differ from those expected of the same ids.

    Args:
        unsure: what of each row is close to a threshold, and may be otherwise.
    Returns:
        `rows`; `near`, those of which something is unsure, and `near_differing`, those that differ in that alone; the ids of
        `different` others; and of the probabilities of what is the same and not unsure how many were `compared`, how many are
        `beyond` the tolerance, and the `largest` difference.
    """
    different, near_differing, apart = [], 0, [0.0]
    for name, row in given.items():
        open_ = unsure.get(name, set())
        (kind, prob), (wanted, was) = answer_of(row), answer_of(expected[name])
        if {key: kind[key] for key in kind if key not in open_} != {key: wanted[key] for key in wanted if key not in open_}:
            different.append(name)
        else:
            near_differing += kind != wanted
            apart += [abs(prob[at] - was[at]) for at in prob if at in was and at[0] not in open_]
    return {
        "rows": len(given),
        "near": sum(name in unsure for name in given),
        "near_differing": near_differing,
        "different": different,
        "compared": len(apart) - 1,
        "beyond": sum(each > TOLERANCE for each in apart),
        "largest": max(apart),
    }


def answer_of(row: Row) -> tuple[dict[Key, Any], dict[tuple[Key, str], float]]:
    """What of a row must be equal (of `codes` and `entities` its decisions, codes, spans, and how it failed), and probabilities,
    each by what it is one of."""
    sure = {name: value for name, value in row.items() if name == "decision" or name.endswith(("_code", "_decision"))}
    prob = {(f"{task}_code", "prob"): row[f"{task}_prob"] for name in row if (task := name.removesuffix("_prob")) != name}
    for each in row.get("entities") or ():
        span = key_of([each[name] for name in ("type", "start", "end")])
        sure[span] = True
        prob |= {(span, name): each[name] for name in each if name.endswith("score")}
    failure = row["failure"] and row["failure"]["kind"]
    return {**sure, "failure": failure}, {at: value for at, value in prob.items() if value is not None}


def key_of(key: Any) -> Key:
    """A column's name, or a span as JSON has it."""
    return key if isinstance(key, str) else tuple(key)


def matrix_peak(device: str) -> float:
    """TFLOP/s of a large matrix product, in bf16 where the device is fast at it, the best of some."""
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


def name_of(device: str) -> str:
    """The card, or the processor."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return platform.machine()


def unpack(folder: Path) -> None:
    """Makes the weights of the encoders from their packed files."""
    for packed in sorted(folder.glob("*/*.gz")):
        whole = packed.with_suffix("")
        if not whole.exists():
            with gzip.open(packed) as source, open(f"{whole}.tmp", "wb") as file:
                shutil.copyfileobj(source, file, 2**20)
            os.replace(f"{whole}.tmp", whole)


def lines(name: str, found: Mapping[str, Any]) -> Sequence[str]:
    """The figures of a system for a person."""
    shown: dict[str, Callable[[Any], str]] = {
        "tokens_a_second": lambda value: f"{value:,.0f} tokens of text a second",
        "share_of_peak": lambda value: f"{value:.1%} of the matrix peak",
        "evidence_costs": lambda value: f"with evidence {value:.2f} times as long",
        "memory_mib": lambda value: f"{value:,.0f} MiB at most",
    }
    told = f"{found['rows']} texts, {len(found['different'])} different; {found['near']} with something near a threshold"
    prob = f"{found['compared']} probabilities within {found['largest']:.4f}, {found['beyond']} beyond {TOLERANCE}"
    return [
        f"{name}:",
        f"  {told}, of which {found['near_differing']} differ in that; {prob}",
        f"  {', '.join(tell(found[key]) for key, tell in shown.items())}",
        *(f"  {'ok    ' if holds else 'FAILED'}  {what}" for what, holds in found["checks"].items()),
    ]


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.exit(main(here, (Path(sys.argv[1]) if len(sys.argv) > 1 else here / REPORT).resolve()))
