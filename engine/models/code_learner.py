"""The learner of a system of codes: cross-entropy of every task, over whole texts."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.batching import token_budget_batches
from engine.evaluation.classes import macro_f1
from engine.models.base import Worker
from engine.models.code_columns import CodeData
from engine.models.code_examples import labels_of
from engine.models.code_system import CodeConfig, new_network
from engine.models.columns import list_values
from engine.models.examples import Source
from engine.models.tokens import collate
from engine.text.windows import window_count

Pairs = dict[str, list[tuple[np.ndarray, np.ndarray]]]
_BUDGET = 4096


class CodeLearner:
    """See `engine.training.loop.Learner`. Examples of `source` are tokens of texts, and label numbers by task."""

    def __init__(self, network: nn.Module, config: CodeConfig, source: Source, seed: int, device: torch.device) -> None:
        self.network, self.config, self.source, self.seed, self.device = network.to(device), config, source, seed, device

    def parameters(self) -> Mapping[str, Tensor]:
        return dict(self.network.named_parameters())

    def order(self, epoch: int) -> Sequence[int]:
        return self.source.order(epoch, -1.0, self.seed)

    def losses(self, examples: Sequence[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        self.network.train()
        (ids, labels), members = self.source.hold(examples, epoch)
        for texts, logits in self._logits(ids, members):
            targets = {task: torch.from_numpy(labels[task][texts]).to(self.device) for task in logits}
            losses = {task: text_losses(logits[task].float(), targets[task]).sum() for task in logits}
            yield losses, sum(len(ids[text]) for text in texts)

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        self.network.eval()
        pairs: Pairs = defaultdict(list)
        for (ids, labels), members in self.source.held_back():
            for texts, logits in self._logits(ids, members):
                for task, values in logits.items():
                    pairs[task].append(answers(labels[task][texts], values))
        return figures(pairs)

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        return {}

    def close(self) -> None:
        self.source.close()

    def _logits(self, texts: Sequence[np.ndarray], members: Sequence[int]) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
        ids, window = [texts[member] for member in members], self.config.window
        counts = [window_count(len(text), window) for text in ids]
        lengths = [-(-len(text) // max(1, count)) + 2 for text, count in zip(ids, counts, strict=True)]
        for places in token_budget_batches(counts, lengths, _BUDGET):
            batch = collate(places, [ids[place] for place in places], window=window, special=self.config.special)
            yield [members[place] for place in places], self.network(batch.to(self.device))


def text_losses(logits: Tensor, gold: Tensor, smoothing: float = 0.0) -> Tensor:
    """The loss [n] of each text: cross-entropy, 0 where `gold` is -1; for `gold` [n, labels] the mean of all yes-or-no losses."""
    if gold.ndim == 1:
        return functional.cross_entropy(logits, gold, ignore_index=-1, reduction="none", label_smoothing=smoothing)
    loss = functional.binary_cross_entropy_with_logits(logits, gold.clamp_min(0).float(), reduction="none")
    return (loss * (gold >= 0)).mean(-1)


def answers(gold: np.ndarray, logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Labels [n] or [n, labels], and the predictions of the logits [n, labels]."""
    return gold, ((logits > 0).long() if gold.ndim > 1 else logits.argmax(-1)).cpu().numpy()


def figures(pairs: Pairs) -> dict[str, float]:
    """Accuracy and macro-F1 of each task from its `answers` in parts; `macro_f1` is the mean over tasks."""
    values = {}
    for name, parts in pairs.items():
        gold, called = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        known = gold >= 0
        values[f"accuracy_{name}"] = float((gold == called)[known].mean()) if known.any() else 0.0
        values[f"macro_f1_{name}"] = _macro_f1(gold, called)
    return values | {"macro_f1": float(np.mean([values[f"macro_f1_{name}"] for name in pairs])) if pairs else 0.0}


def learner(settings: Mapping[str, Any], worker: Worker) -> CodeLearner:
    """The learner of the network at `settings["network"]`, whose first weights are drawn from the seed."""
    stored = worker.examples(settings["examples"])
    config = CodeConfig.from_json(stored.facts["config"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings["seed"])
        network = new_network(settings["network"], config)
    held = settings["data"].get("held", CodeData.held)
    source = stored.stream(lambda table: (list_values(table["ids"]), labels_of(table, config.labels)), held)
    return CodeLearner(network, config, source, settings["seed"], worker.device)


def _macro_f1(gold: np.ndarray, called: np.ndarray) -> float:
    """Mean F1 over the classes, or labels, in gold."""
    if gold.ndim == 1:
        known = gold >= 0
        return macro_f1(gold[known].astype(str), called[known].astype(str)) if known.any() else 0.0
    values = []
    for label in range(gold.shape[1]):
        yes, predicted = gold[:, label] == 1, (called[:, label] == 1) & (gold[:, label] >= 0)
        if yes.any():
            values.append(2 * float((yes & predicted).sum()) / float(yes.sum() + predicted.sum()))
    return float(np.mean(values)) if values else 0.0
