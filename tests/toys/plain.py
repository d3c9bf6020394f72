"""A system without a model: the decision by the text's length, one span of evidence, a probability from a hash.

Words in a text make it misbehave, each in one way, so that tests can plant them; `Options.stage` says whether in `prepare` or
`run`. `runtime.pause` makes a batch last, `runtime.pids` is a folder where each process that runs the model leaves its id, and
`runtime.places` one where each that prepares or runs leaves its node's process id and its GPUs, as `<step>-<its id>`.
`runtime.gate` is a file that each process waits for before its fourth batch.
"""

import hashlib
import json
import os
import pathlib
import time
from dataclasses import dataclass

import pyarrow as pa

from engine.keys import key, options_from
from engine.models.base import ModelSpec
from engine.models.options import SystemOptions
from engine.records import EVIDENCE, FAILURE, TOP, text_digest

EXIT, HOG, RAISE, SLOW, NAN = "EXITNOW", "HOGMEMORY", "RAISENOW", "SLOWNOW", "NANNOW"
HOG_BYTES = 768 * 2**20


@dataclass(frozen=True)
class Options(SystemOptions):
    stage: str = key("run", "Where a text may misbehave.", at="toy.stage", choices=("prepare", "run"))


class Plain:
    reads = "text"
    table = "codes"

    def __init__(self, spec: ModelSpec) -> None:
        self.digest = hashlib.sha256(repr(sorted(spec.options.items())).encode()).hexdigest()
        # Whatever else stands there is told apart in a run's settings alone.
        self._stage = options_from(Options, {name: value for name, value in spec.options.items() if name == "stage"}).stage
        self._pause = float(spec.runtime.get("pause", 0.0))
        self._pids = spec.runtime.get("pids")
        self._places = spec.runtime.get("places")
        self._gate = spec.runtime.get("gate")
        self._batches = 0

    def fields(self) -> list[pa.Field]:
        return [
            pa.field("decision", pa.string(), nullable=False),
            pa.field("reasons", pa.list_(pa.string())),
            pa.field("site_code", pa.string()),
            pa.field("site_prob", pa.float32()),
            pa.field("site_reasons", pa.list_(pa.string())),
            pa.field("site_top", TOP),
            pa.field("site_evidence", EVIDENCE),
            pa.field("text_sha256", pa.binary(32)),
            pa.field("n_tokens", pa.int32()),
        ]

    def limits(self) -> dict[str, str]:
        return {"low_confidence": "Two of three lengths are sure."}

    def prepare(self, records: pa.Table) -> pa.Table:
        self._note("prepare")
        texts = records["text"].to_pylist()
        if self._stage == "prepare":
            misbehave([trouble(text) for text in texts])
        failures = [{"kind": "too_large", "detail": "toy"} if "TOOLARGE" in text else None for text in texts]
        return pa.table(
            {
                "row": records["row"],
                "record_id": records["record_id"],
                "failure": pa.array(failures, FAILURE),
                "length": pa.array([len(text) for text in texts], pa.int32()),
                "digest": pa.array([text_digest(text) for text in texts], pa.binary(32)),
                "trouble": pa.array([trouble(text) for text in texts], pa.string()),
            }
        ).take(list(range(len(texts)))[::-1])

    def run(self, prepared: pa.Table) -> pa.Table:
        self._note("run")
        if self._pids:
            pathlib.Path(self._pids, str(os.getpid())).touch()
        if self._stage == "run":
            misbehave(prepared["trouble"].to_pylist())
        time.sleep(self._pause)
        self._batches += 1
        while self._gate and self._batches > 3 and not os.path.exists(self._gate):
            time.sleep(0.05)
        lengths = prepared["length"].to_pylist()
        decisions = ["auto" if n % 3 else "review" for n in lengths]
        probs = [d[0] / 255 for d in prepared["digest"].to_pylist()]
        probs = [float("nan") if t == NAN else p for p, t in zip(probs, prepared["trouble"].to_pylist(), strict=True)]
        reasons = pa.array([[] if d == "auto" else ["low_confidence"] for d in decisions], pa.list_(pa.string()))
        codes = [f"C{n % 80:02d}" for n in lengths]
        return pa.table(
            {
                "row": prepared["row"],
                "failure": pa.nulls(len(lengths), FAILURE),
                "decision": decisions,
                "reasons": reasons,
                "site_code": codes,
                "site_prob": pa.array(probs, pa.float32()),
                "site_reasons": reasons,
                "site_top": pa.array([[{"code": c, "prob": 0.5}] for c in codes], TOP),
                "site_evidence": pa.array([[{"start": 0, "end": 1, "score": 0.5, "weight": 1.0}] for _ in lengths], EVIDENCE),
                "text_sha256": prepared["digest"],
                "n_tokens": pa.array(lengths, pa.int32()),
            }
        )

    def _note(self, step: str) -> None:
        if self._places:
            place = {"node": os.getppid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
            pathlib.Path(self._places, f"{step}-{os.getpid()}").write_text(json.dumps(place))


def trouble(text: str) -> str | None:
    return next((word for word in (EXIT, HOG, RAISE, SLOW, NAN) if word in text), None)


def misbehave(troubles: list[str | None]) -> None:
    if EXIT in troubles:
        os._exit(9)
    if HOG in troubles:
        hog()
    if RAISE in troubles:
        raise ValueError("a record said so")
    if SLOW in troubles:
        time.sleep(1.0)


def hog() -> None:
    """Takes memory without end, as far as a test may: a process that gets away with it dies as the kernel would kill it."""
    held = []
    while sum(map(len, held)) < HOG_BYTES:
        held.append(bytearray(64 * 2**20))
    os._exit(137)


def load(spec: ModelSpec) -> Plain:
    return Plain(spec)
