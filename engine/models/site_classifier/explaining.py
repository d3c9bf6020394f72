"""Evidence for a batch: one forward pass, one backward pass a task, spans, and checks by erasure on a sample of rows.

The checks measure the evidence that stands in the row, not a ranking of tokens: how far the answer's probability falls when the
shown spans are masked (comprehensiveness), and how far when everything else is (sufficiency; DeYoung et al. 2020, ERASER, section
4), beside the same figures for equally many random tokens of the report. `residual` is the part of F(report) - F(report with
every token masked) that the scores of all tokens do not explain.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from engine.explain.codes import answers, target_probability, target_score
from engine.explain.explanation import Explanation, evidence_rows, from_tokens, top_spans
from engine.explain.rules import relevance_rules
from engine.models.site_classifier.evidence import METHODS, NEEDS_BACKWARD
from engine.models.site_classifier.network import Pooled, SiteNetwork
from engine.models.tokens import Batch

if TYPE_CHECKING:
    from engine.models.site_classifier.options import Options

COMPLETE = frozenset({"gradient_x_input", "attention_constant"})


class Explainer:
    """Predicts and explains batches with one method."""

    def __init__(self, network: SiteNetwork, method: str, options: "Options", temperatures: Mapping[str, float]) -> None:
        self.network = network
        self.method = method
        self.spans = options.spans
        self.share = options.checks
        self.temperatures = temperatures

    def explain(
        self, batch: Batch, chunk: int, words: Sequence[Mapping[str, np.ndarray]], seeds: Sequence[int]
    ) -> tuple[dict[str, np.ndarray], list[dict[str, dict[str, Any]]]]:
        """Logits of each task, and for each record the evidence columns of each task.

        Args:
            batch: the records' windows. chunk: windows encoded at a time.
            words: `word_of_token`, `word_start`, `word_end`, `word_spoken` of each record.
            seeds: that of each record, for the sample and the controls.
        """
        pooled, targets, scores = self.token_scores(batch, chunk)
        tokens = {name: per_record(batch, values) for name, values in scores.items()}
        columns: list[dict[str, dict[str, Any]]] = [{} for _ in words]
        masks: dict[str, list[np.ndarray]] = {name: [] for name in scores}
        for name in scores:
            for index, word in enumerate(words):
                explanation = from_tokens(tokens[name][index], word["word_of_token"], word["word_start"], word["word_end"])
                spans = top_spans(explanation, self.spans, word["word_spoken"].astype(bool))
                columns[index][name] = {"evidence": evidence_rows(explanation, spans)}
                masks[name].append(span_mask(explanation, spans, word["word_of_token"]))
        for index, seed in enumerate(seeds):
            if np.random.default_rng(seed).random() < self.share:
                shown = {name: masks[name][index] for name in scores}
                self._check(batch, index, chunk, pooled, targets, scores, shown, seed, columns[index])
        return {name: values.detach().cpu().numpy() for name, values in pooled.logits.items()}, columns

    def token_scores(self, batch: Batch, chunk: int) -> tuple[Pooled, dict[str, Tensor], Mapping[str, Tensor]]:
        """The network's output, and for each task the answers that are explained and the score [W, L] of every token."""
        with relevance_rules(self.network.encoder) if self.method == "attnlrp" else nullcontext():
            with torch.set_grad_enabled(self.method in NEEDS_BACKWARD):
                embeds = self.network.embed(batch.ids).requires_grad_(self.method in NEEDS_BACKWARD)
                pooled = self.network(batch, embeds, chunk)
            targets = {name: answers(values.detach(), self._many(name)) for name, values in pooled.logits.items()}
            return pooled, targets, METHODS[self.method](self.network, batch, embeds, pooled, targets)

    @torch.no_grad()
    def _check(
        self,
        batch: Batch,
        index: int,
        chunk: int,
        pooled: Pooled,
        targets: Mapping[str, Tensor],
        scores: Mapping[str, Tensor],
        shown: Mapping[str, np.ndarray],
        seed: int,
        columns: dict[str, dict[str, Any]],
    ) -> None:
        """Adds the check columns of one record to `columns`; `shown` are the masks [tokens] of each task's spans."""
        one = record_of(batch, index)
        bare = self._logits(one, chunk, np.ones_like(next(iter(shown.values()))))
        for name, evidence in shown.items():
            control = np.zeros_like(evidence)
            drawn = np.random.default_rng([seed, *name.encode()]).choice(len(evidence), int(evidence.sum()), replace=False)
            control[drawn] = True
            target, full = targets[name][index : index + 1], pooled.logits[name][index : index + 1]
            sure = self._prob(name, full, target)
            values = {
                column: sure - self._prob(name, self._logits(one, chunk, mask)[name], target)
                for column, mask in (
                    ("comprehensiveness", evidence),
                    ("sufficiency", ~evidence),
                    ("random_comprehensiveness", control),
                    ("random_sufficiency", ~control),
                )
            }
            if self.method in COMPLETE:
                many = self._many(name)
                gap = target_score(full, target, many) - target_score(bare[name], target, many)
                values["residual"] = float(scores[name][batch.record == index][one.text].sum() - gap)
            columns[name] |= values

    def _logits(self, one: Batch, chunk: int, hidden: np.ndarray) -> Mapping[str, Tensor]:
        return self.network(mask_tokens(one, hidden, self.network.config.special[3]), chunk=chunk).logits

    def _prob(self, name: str, logits: Tensor, target: Tensor) -> float:
        return float(target_probability(logits, target, self._many(name), self.temperatures[name]))

    def _many(self, name: str) -> bool:
        return self.network.config.task(name).multi_label


def per_record(batch: Batch, values: Tensor) -> list[np.ndarray]:
    """Token values [W, L] as one array [tokens] for each record, in the order of its text."""
    flat = values.detach().float().cpu().numpy()
    text, record = batch.text.cpu().numpy(), batch.record.cpu().numpy()
    return [flat[record == index][text[record == index]] for index in range(batch.records)]


def span_mask(explanation: Explanation, spans: Sequence[tuple[int, int]], word_of_token: np.ndarray) -> np.ndarray:
    """Whether each token lies in one of the spans, [tokens]."""
    words = np.zeros(len(explanation.start), dtype=bool)
    for first, stop in spans:
        words[first:stop] = True
    return words[word_of_token]


def record_of(batch: Batch, index: int) -> Batch:
    """The part of a batch that is one record's."""
    windows = batch.record == index
    ids, mask, text, types, position = (
        values[windows] for values in (batch.ids, batch.mask, batch.text, batch.types, batch.position)
    )
    return Batch(ids, mask, text, types, torch.zeros_like(batch.record[windows]), position, [batch.row[index]])


def mask_tokens(batch: Batch, hidden: np.ndarray, mask_id: int) -> Batch:
    """A batch of one record, with the tokens flagged in `hidden` [tokens] replaced by [MASK]."""
    flags = torch.from_numpy(hidden).to(batch.ids.device)[batch.position.clamp_min(0)] & batch.text
    return replace(batch, ids=batch.ids.masked_fill(flags, mask_id))
