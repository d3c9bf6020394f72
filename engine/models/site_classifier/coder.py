"""The site classifier as a system: prepared reports in, rows of the `codes` table out."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.batching import token_budget_batches
from engine.encoders import attention_for, load_tokenizer, pick_precision, set_threads
from engine.errors import ConfigError
from engine.keys import options_from
from engine.models.base import ModelSpec
from engine.models.columns import list_values
from engine.models.site_classifier.checkpoint import Checkpoint, TaskCalibration, build_network, read_checkpoint
from engine.models.site_classifier.decide import Answer, DecisionConfig, answer, auto_codes, row_decision
from engine.models.site_classifier.options import Options
from engine.models.site_classifier.prepare import collate, prepare
from engine.records import FAILURE, codes_fields, seed_of
from engine.registry import code_name

if TYPE_CHECKING:
    from engine.models.site_classifier.network import Batch, SiteNetwork

_BUDGET = 4096
_META = ["row", "record_id", "text_sha256", "n_windows", "truncated_chars", "signs", "phrases"]
# Reasons that hold a code back whatever the report says.
_NEVER = ("rare_class_below_support", "no_threshold")
_WORDS = ("input_ids", "word_of_token", "word_start", "word_end", "word_spoken")


class SiteCoder:
    """See `engine.models.base.System`."""

    table = "codes"

    def __init__(self, checkpoint: Checkpoint, options: Options, runtime: Mapping[str, Any]) -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.digest = checkpoint.digest
        self.options = options
        self.device = str(runtime.get("device", "cpu"))
        self.threads = int(runtime.get("threads", 0))
        # How windows pass together decides the last bits: with `deterministic` by nothing that a machine may choose.
        self.budget = _BUDGET if options.deterministic else int(runtime.get("batch_tokens", _BUDGET))
        names = [task.name for task in self.config.tasks]
        unknown = [name for name in options.tasks if name not in names]
        if unknown:
            raise ConfigError(f"decision.tasks: the model has no task '{unknown[0]}'; it has {', '.join(names)}")
        if self.config.paired and options.pair is None:
            raise ConfigError("this model reads pairs of texts: name the column of the second one in text.pair and in input.keep")
        self.decision = DecisionConfig(tuple(options.tasks), options.min_support, dict(options.thresholds or {}), options.rules)
        self.method = checkpoint.evidence_method if options.method == "default" else options.method
        if self.method not in ("none", *self.config.evidence_methods):
            raise ConfigError(
                f"explain.method: the head '{self.config.head}' has no '{self.method}'; "
                f"it has {', '.join(self.config.evidence_methods)}"
            )

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.checkpoint.folder)

    @cached_property
    def network(self) -> "SiteNetwork":
        import torch

        from engine.explain import attention_constant

        # The number of threads decides how a sum is split, and with it the last bits.
        set_threads(1 if self.options.deterministic else self.threads)
        attention = attention_constant.register() if self.method == "attention_constant" else attention_for(self.device)
        # Weights made in inference mode, where the first prediction may ask for them, would be closed to gradients for good.
        with torch.inference_mode(False):
            network = build_network(self.checkpoint, pick_precision(self.options.precision, self.device), attention)
            return network.to(self.device)

    def fields(self) -> list[pa.Field]:
        return codes_fields([task.name for task in self.config.tasks])

    def auto_codes(self, task: str) -> list[str]:
        """The codes of a task that can be `auto` under the run's options."""
        return auto_codes(self.config.task(task), self._calibration(task), self.decision)

    def limits(self) -> dict[str, str]:
        counts = [f"{len(self.auto_codes(t))} of {len(self.config.task(t).labels)} {t} codes" for t in self.options.tasks]
        line = f"{' and '.join(counts)} can be coded without review with this model"
        return dict.fromkeys(_NEVER, f"{line} (decision.min_support={self.options.min_support}).") if counts else {}

    def prepare(self, records: pa.Table) -> pa.Table:
        pair = self.options.pair if self.config.paired else None
        return prepare(records, self.tokenizer, window=self.config.window, max_tokens=self.options.max_tokens, pair=pair)

    def run(self, prepared: pa.Table) -> pa.Table:
        schema = pa.schema([pa.field("row", pa.int32()), pa.field("failure", FAILURE), *self.fields()])
        rows = [row for coded in self._coded(prepared) for row in coded]
        return pa.Table.from_pylist(rows, schema=schema)

    def logits(self, prepared: pa.Table) -> dict[str, np.ndarray]:
        """Uncalibrated logits [rows, labels] of each task, in the order of the prepared rows; no evidence."""
        import torch

        found = {task.name: np.zeros((len(prepared), len(task.labels)), np.float32) for task in self.config.tasks}
        with torch.inference_mode():
            for members, batch in self.batches(prepared):
                for name, values in self.network(batch, chunk=self.chunk(batch)).logits.items():
                    found[name][members] = values.cpu().numpy()
        return found

    def _coded(self, prepared: pa.Table) -> Iterator[list[dict[str, Any]]]:
        from engine.models.site_classifier.explaining import Explainer

        explainer = Explainer(self.network, self.method, self.options, self._temperatures()) if self.method != "none" else None
        meta = prepared.select(_META).to_pylist()
        words = {name: list_values(prepared[name]) for name in _WORDS}
        for members, batch in self.batches(prepared):
            chunk = self.chunk(batch)
            if explainer is None:
                logits, evidence = self._predict(batch, chunk), None
            else:
                logits, evidence = explainer.explain(
                    batch,
                    chunk,
                    [{name: values[m] for name, values in words.items()} for m in members],
                    [seed_of(meta[m]["record_id"], "checks") for m in members],
                )
            yield [
                self._row(
                    meta[member], len(words["input_ids"][member]), {n: v[i] for n, v in logits.items()}, evidence and evidence[i]
                )
                for i, member in enumerate(members)
            ]

    def _predict(self, batch: "Batch", chunk: int) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            return {name: values.cpu().numpy() for name, values in self.network(batch, chunk=chunk).logits.items()}

    def _row(
        self, meta: Mapping[str, Any], tokens: int, logits: Mapping[str, np.ndarray], evidence: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        answers: dict[str, Answer] = {}
        row: dict[str, Any] = {"row": meta["row"], "failure": None}
        for task in self.config.tasks:
            found = answer(task, logits[task.name], self._calibration(task.name), self.decision)
            answers[task.name] = found
            row |= {
                f"{task.name}_code": found.code,
                f"{task.name}_name": code_name(task.name, found.code),
                f"{task.name}_prob": found.prob,
                f"{task.name}_decision": found.decision,
                f"{task.name}_reasons": found.reasons,
                f"{task.name}_top": found.top,
            }
            row |= {f"{task.name}_{column}": value for column, value in (evidence[task.name] if evidence else {}).items()}
        decision, reasons = row_decision(
            answers,
            self.decision,
            truncated_chars=meta["truncated_chars"],
            pairs=self.checkpoint.pairs,
            signs=meta["signs"],
        )
        return row | {
            "decision": decision,
            "reasons": reasons,
            "phrases": meta["phrases"],
            "text_sha256": meta["text_sha256"],
            "n_tokens": tokens,
            "n_windows": meta["n_windows"],
            "truncated_chars": meta["truncated_chars"],
        }

    def batches(self, prepared: pa.Table) -> Iterator[tuple[list[int], "Batch"]]:
        """All windows of prepared rows in batches of whole records, with the places of these among the rows."""
        ids, pairs = list_values(prepared["input_ids"]), list_values(prepared["pair_ids"])
        windows = prepared["n_windows"].to_numpy()
        keys = prepared["row"].to_pylist()
        paired = self.config.paired
        lengths = [-(-len(tokens) // max(1, count)) + 2 for tokens, count in zip(ids, windows, strict=True)]
        budget = 1 if self.options.deterministic else self.budget
        for members in token_budget_batches(windows, lengths, budget):
            batch = collate(
                [keys[m] for m in members],
                [ids[m] for m in members],
                window=self.config.window,
                special=self.config.special,
                pairs=[pairs[m] for m in members] if paired else None,
            )
            yield members, batch.to(self.device)

    def chunk(self, batch: "Batch") -> int:
        """How many of a batch's windows are encoded at a time."""
        return max(1, 2 * self.budget // batch.ids.shape[1])

    def _calibration(self, task: str) -> TaskCalibration:
        return self.checkpoint.calibration.get(task, TaskCalibration())

    def _temperatures(self) -> dict[str, float]:
        return {task.name: self._calibration(task.name).temperature for task in self.config.tasks}


def load(spec: ModelSpec) -> SiteCoder:
    """The coder that a spec describes; weights are read at the first `run`."""
    options = options_from(Options, spec.options)
    return SiteCoder(read_checkpoint(spec.path, options.head), options, spec.runtime)
