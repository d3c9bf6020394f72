"""The site classifier as a system: prepared reports in, rows of the `codes` table out."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.encoders import attention_for
from engine.errors import ConfigError
from engine.models.columns import list_values
from engine.models.site_classifier.checkpoint import Checkpoint, TaskCalibration, build_network, read_checkpoint
from engine.models.site_classifier.decide import Answer, DecisionConfig, answer, auto_codes, row_decision
from engine.models.site_classifier.options import Options
from engine.models.site_classifier.prepare import prepare
from engine.models.token_system import TokenSystem
from engine.models.tokens import WORDS
from engine.records import codes_fields, seed_of
from engine.registry import code_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from engine.models.site_classifier.network import SiteNetwork
    from engine.models.tokens import Batch

TABLE = "codes"
_META = ["row", "record_id", "text_sha256", "n_windows", "truncated_chars", "signs", "phrases"]
# Reasons that hold a code back whatever the report says.
_NEVER = ("rare_class_below_support", "no_threshold")


class SiteCoder(TokenSystem):
    """See `engine.models.base.System`."""

    table, Options = TABLE, Options

    def __init__(self, checkpoint: Checkpoint, options: Options, runtime: Mapping[str, Any]) -> None:
        super().__init__(checkpoint, options, runtime)
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

    @classmethod
    def read(cls, path: str, options: Options) -> Checkpoint:
        return read_checkpoint(path, options.head)

    def build(self, dtype: "torch.dtype") -> "SiteNetwork":
        from engine.explain import attention_constant

        attention = attention_constant.register() if self.method == "attention_constant" else attention_for(self.device)
        return build_network(self.checkpoint, dtype, attention)

    def fields(self) -> list[pa.Field]:
        return codes_fields([task.name for task in self.config.tasks])

    def known(self) -> dict[str, tuple[str, ...]]:
        return {task.name: task.labels for task in self.config.tasks}

    def auto(self) -> dict[str, list[str]]:
        return {task.name: auto_codes(task, self._calibration(task.name), self.decision) for task in self.config.tasks}

    def limits(self) -> dict[str, str]:
        known, auto = self.known(), self.auto()
        counts = [f"{len(auto[task])} of {len(known[task])} {task} codes" for task in self.options.tasks]
        line = f"{' and '.join(counts)} can be coded without review with this model"
        return dict.fromkeys(_NEVER, f"{line} (decision.min_support={self.options.min_support}).") if counts else {}

    def prepare(self, records: pa.Table) -> pa.Table:
        pair = self.options.pair if self.config.paired else None
        return prepare(records, self.tokenizer, window=self.config.window, max_tokens=self.options.max_tokens, pair=pair)

    def predict(self, batch: "Batch") -> "Mapping[str, Tensor]":
        return self.network(batch, chunk=self.chunk(batch)).logits

    def rows(self, prepared: pa.Table) -> Iterator[dict[str, Any]]:
        from engine.models.site_classifier.explaining import Explainer

        explainer = Explainer(self.network, self.method, self.options, self._temperatures()) if self.method != "none" else None
        meta = prepared.select(_META).to_pylist()
        words = {name: list_values(prepared[name]) for name in WORDS}
        for members, batch in self.batches(prepared):
            if explainer is None:
                logits, evidence = self._logits(batch), None
            else:
                logits, evidence = explainer.explain(
                    batch,
                    self.chunk(batch),
                    [{name: values[m] for name, values in words.items()} for m in members],
                    [seed_of(meta[m]["record_id"], "checks") for m in members],
                )
            for i, member in enumerate(members):
                of_report = {name: values[i] for name, values in logits.items()}
                yield self._row(meta[member], len(words["input_ids"][member]), of_report, evidence and evidence[i])

    def _logits(self, batch: "Batch") -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            return {name: values.cpu().numpy() for name, values in self.predict(batch).items()}

    def _row(
        self, meta: Mapping[str, Any], tokens: int, logits: Mapping[str, np.ndarray], evidence: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        answers: dict[str, Answer] = {}
        row: dict[str, Any] = {"row": meta["row"]}
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

    def chunk(self, batch: "Batch") -> int:
        """How many of a batch's windows are encoded at a time."""
        return max(1, 2 * self.budget // batch.ids.shape[1])

    def _calibration(self, task: str) -> TaskCalibration:
        return self.checkpoint.calibration.get(task, TaskCalibration())

    def _temperatures(self) -> dict[str, float]:
        return {task.name: self._calibration(task.name).temperature for task in self.config.tasks}
