"""A system of codes as the training loop sees it: cross-entropy of every task, over whole texts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from engine.batching import token_budget_batches
from engine.evaluation.classes import macro_f1
from engine.models.base import Worker
from engine.models.code_system import CodeConfig, new_network
from engine.models.columns import list_values
from engine.models.tokens import collate
from engine.sources.labelled.splits import TRAIN, VALID
from engine.text.windows import window_count

_BUDGET = 4096


class CodeLearner:
    """See `engine.training.loop.Learner`."""

    def __init__(self, network: nn.Module, config: CodeConfig, examples: pa.Table, seed: int, device: torch.device) -> None:
        self.network, self.config, self.seed, self.device = network.to(device), config, seed, device
        parts = {split: examples.filter(pc.equal(examples["split"], split)) for split in (TRAIN, VALID)}
        self.ids = {split: list_values(part["input_ids"]) for split, part in parts.items()}
        self.targets = {
            split: {task: torch.tensor(part[task].to_pylist(), device=device) for task in config.labels}
            for split, part in parts.items()
        }

    def parameters(self) -> Mapping[str, Tensor]:
        return dict(self.network.named_parameters())

    def order(self, epoch: int) -> Sequence[int]:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.ids[TRAIN])).tolist()

    def losses(self, examples: Sequence[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        self.network.train()
        for members, logits in self._logits(TRAIN, examples):
            targets = {task: of[members] for task, of in self.targets[TRAIN].items()}
            terms = {
                task: nn.functional.cross_entropy(logits[task].float(), targets[task], ignore_index=-1, reduction="sum")
                for task in logits
            }
            yield terms, sum(len(self.ids[TRAIN][member]) for member in members)

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        self.network.eval()
        best = {task: torch.full_like(of, -1) for task, of in self.targets[VALID].items()}
        for members, logits in self._logits(VALID, range(len(self.ids[VALID]))):
            for task, values in logits.items():
                best[task][members] = values.argmax(-1)
        figures, means = {}, []
        for task, targets in self.targets[VALID].items():
            known = targets >= 0
            gold, given = (each[known].tolist() for each in (targets, best[task]))
            figures[f"accuracy_{task}"] = float(np.mean(np.array(gold) == np.array(given))) if gold else 0.0
            means.append(macro_f1(gold, given) if gold else 0.0)
        return {"macro_f1": float(np.mean(means)), **figures}

    def told(self) -> Mapping[str, tuple[float, int]]:
        return {}

    def _logits(self, split: str, examples: Sequence[int]) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
        ids, window = [self.ids[split][example] for example in examples], self.config.window
        counts = [window_count(len(text), window) for text in ids]
        lengths = [-(-len(text) // max(1, count)) + 2 for text, count in zip(ids, counts, strict=True)]
        for places in token_budget_batches(counts, lengths, _BUDGET):
            batch = collate(places, [ids[place] for place in places], window=window, special=self.config.special)
            yield [examples[place] for place in places], self.network(batch.to(self.device))


def learner(settings: Mapping[str, Any], worker: Worker) -> CodeLearner:
    """That of the network at `settings["network"]`, which begins with weights drawn from the seed."""
    stored = worker.examples(settings["examples"])
    config = CodeConfig.from_json(stored.facts["config"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings["seed"])
        network = new_network(settings["network"], config)
    return CodeLearner(network, config, stored.whole(), settings["seed"], worker.device)
