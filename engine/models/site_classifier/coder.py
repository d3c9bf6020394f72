"""The site classifier as a system: from prepared reports to rows of the `codes` table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.encoders import attention_for
from engine.errors import ConfigError
from engine.models.code_decide import MORE_SURE_THAN_NOT, Answer
from engine.models.code_system import CodeSystem
from engine.models.columns import list_values
from engine.models.site_classifier.checkpoint import Checkpoint, build_network, read_checkpoint
from engine.models.site_classifier.options import INVALID_PAIR, Options
from engine.models.site_classifier.prepare import prepare
from engine.models.tokens import WORDS
from engine.records import seed_of
from engine.registry.validity import impossible

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from engine.models.site_classifier.network import SiteNetwork
    from engine.models.tokens import Batch


class SiteCoder(CodeSystem):
    """See `engine.models.base.System`."""

    Options, kept = Options, ("signs", "phrases")

    def __init__(self, checkpoint: Checkpoint, options: Options, runtime: Mapping[str, Any]) -> None:
        super().__init__(checkpoint, options, runtime)
        self.require("decision.tasks", options.tasks)
        if self.config.paired and options.pair is None:
            raise ConfigError("this model reads pairs of texts: name the column of the second one in text.pair and in input.keep")
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
        from engine.explain.rules import register_attention

        attention = register_attention() if self.method == "attention_constant" else attention_for(self.device)
        return build_network(self.checkpoint, dtype, attention)

    @property
    def deciding(self) -> Sequence[str]:
        return self.options.tasks

    def prepare(self, records: pa.Table) -> pa.Table:
        pair = self.options.pair if self.config.paired else None
        return prepare(records, self.tokenizer, window=self.config.window, max_tokens=self.options.max_tokens, pair=pair)

    def predict(self, batch: "Batch") -> "Mapping[str, Tensor]":
        return self.network(batch, chunk=self.chunk(batch)).logits

    def rows(self, prepared: pa.Table) -> Iterator[dict[str, Any]]:
        import torch

        from engine.models.site_classifier.explaining import Explainer

        explainer = Explainer(self.network, self.method, self.options, self.temperatures) if self.method != "none" else None
        meta = self.meta(prepared)
        words = {name: list_values(prepared[name]) for name in WORDS}
        for members, batch in self.batches(prepared):
            if explainer is None:
                with torch.inference_mode():
                    logits = {name: values.cpu().numpy() for name, values in self.predict(batch).items()}
                evidence = [{}] * len(members)
            else:
                logits, evidence = explainer.explain(
                    batch,
                    self.chunk(batch),
                    [{name: values[m] for name, values in words.items()} for m in members],
                    [seed_of(meta[m]["record_id"], "checks") for m in members],
                )
            for i, member in enumerate(members):
                row = self.row(meta[member], {name: values[i] for name, values in logits.items()})
                yield row | {f"{task}_{name}": value for task, columns in evidence[i].items() for name, value in columns.items()}

    def reasons(self, meta: Mapping[str, Any], answers: Mapping[str, Answer]) -> set[str]:
        codes = {name: answer.code for name, answer in answers.items() if answer.prob > MORE_SURE_THAN_NOT}
        rules = set(meta["signs"])
        if impossible(codes.get("site", ""), codes.get("histology", "")):
            rules.add(INVALID_PAIR)
        reasons = super().reasons(meta, answers) | rules & set(self.options.rules)
        # The codes of the first two tasks.
        pair = tuple(codes[task.name] for task in self.config.tasks[:2] if task.name in codes)
        pairs = self.checkpoint.pairs
        return reasons | {"unseen_code_pair"} if pairs and len(pair) == 2 and pair not in pairs else reasons

    def chunk(self, batch: "Batch") -> int:
        """How many windows of a batch are encoded at a time."""
        return max(1, 2 * self.budget // batch.ids.shape[1])
