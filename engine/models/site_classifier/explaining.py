"""Evidence for a batch: one forward, one backward a task, spans, and checks by erasure on a sample of rows.

The checks ask of the evidence as it stands in the row, not of a ranking: how far the answer's probability falls when the shown
spans are masked (comprehensiveness), and how far when everything else is (sufficiency; DeYoung et al. 2020, ERASER, section 4),
beside the same for as many randomly drawn tokens of the same report. `residual` is what the scores of all tokens leave
unexplained of F(report) - F(report with every token masked).
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
            seeds: one a record, for sampling and controls.
        """
        pooled, targets, scores = self.token_scores(batch, chunk)
        tokens = {name: per_record(batch, values) for name, values in scores.items()}
        columns: list[dict[str, dict[str, Any]]] = [{} for _ in words]
        shown: dict[str, list[np.ndarray]] = {name: [] for name in scores}
        for name in scores:
            for index, word in enumerate(words):
                found = from_tokens(tokens[name][index], word["word_of_token"], word["word_start"], word["word_end"])
                spans = top_spans(found, self.spans, word["word_spoken"].astype(bool))
                columns[index][name] = {"evidence": evidence_rows(found, spans)}
                shown[name].append(covered(found, spans, word["word_of_token"]))
        sampled = [index for index, seed in enumerate(seeds) if np.random.default_rng(seed).random() < self.share]
        for index in sampled:
            self._check(batch, index, chunk, pooled, targets, scores, shown, seeds[index], columns[index])
        return {name: values.detach().cpu().numpy() for name, values in pooled.logits.items()}, columns

    def token_scores(self, batch: Batch, chunk: int) -> tuple[Pooled, dict[str, Tensor], Mapping[str, Tensor]]:
        """What the network said, which answers are explained, and the score [W, L] of every token for each task."""
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
        shown: Mapping[str, Sequence[np.ndarray]],
        seed: int,
        columns: dict[str, dict[str, Any]],
    ) -> None:
        """Adds the check columns of one record."""
        one = record_of(batch, index)
        everything = np.ones(len(shown[next(iter(shown))][index]), dtype=bool)
        bare = self._logits(one, chunk, everything)
        for name, masks in shown.items():
            evidence = masks[index]
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
    """Token values [W, L] as one array [tokens] a record, in the text's order."""
    flat = values.detach().float().cpu().numpy()
    text, record = batch.text.cpu().numpy(), batch.record.cpu().numpy()
    return [flat[record == index][text[record == index]] for index in range(batch.records)]


def covered(explanation: Explanation, spans: Sequence[tuple[int, int]], word_of_token: np.ndarray) -> np.ndarray:
    """Which tokens lie in the spans, [tokens]."""
    words = np.zeros(len(explanation.start), dtype=bool)
    for first, stop in spans:
        words[first:stop] = True
    return words[word_of_token]


def record_of(batch: Batch, index: int) -> Batch:
    """The batch of one of its records alone."""
    mine = batch.record == index
    return Batch(
        ids=batch.ids[mine],
        mask=batch.mask[mine],
        text=batch.text[mine],
        types=batch.types[mine],
        record=torch.zeros(int(mine.sum()), dtype=torch.long, device=batch.record.device),
        position=batch.position[mine],
        row=[batch.row[index]],
    )


def mask_tokens(batch: Batch, hidden: np.ndarray, mask_id: int) -> Batch:
    """A one-record batch with the tokens marked in `hidden` [tokens] replaced by [MASK]."""
    flags = torch.from_numpy(hidden).to(batch.ids.device)[batch.position.clamp_min(0)] & batch.text
    return replace(batch, ids=batch.ids.masked_fill(flags, mask_id))
