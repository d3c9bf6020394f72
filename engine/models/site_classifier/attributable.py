"""The site classifier offered to every method of `engine.explain`, see `engine.models.code_explainable`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from engine.errors import ContractError
from engine.explain.rules import relevance_rules
from engine.explain.settings import OWN_METHODS
from engine.models.code_explainable import CodeExplainable, Reports
from engine.models.site_classifier.coder import SiteCoder
from engine.models.site_classifier.evidence import METHODS
from engine.models.site_classifier.network import Pooled
from engine.models.site_classifier.remembered import Remembered
from engine.models.tokens import Batch


class SiteExplainable(CodeExplainable):
    """See `engine.explain.protocol.Explainable`."""

    def __init__(self, coder: SiteCoder, name: str, remembered: Remembered | None = None) -> None:
        """`remembered` holds windows that were encoded; tasks of one coder may share it."""
        if coder.method == "attention_constant":
            raise ContractError("load the coder with another method: this one changes the gradients of its network")
        super().__init__(coder, name)
        self.remembered = Remembered() if remembered is None else remembered
        self._constant_pooling = False
        self.own_methods = OWN_METHODS & set(self.config.evidence_methods)

    @contextmanager
    def relevance_rules(self) -> Iterator[None]:
        """The encoder's rules, and pooling weights held constant."""
        with relevance_rules(self.network.encoder):
            self._constant_pooling = True
            try:
                yield
            finally:
                self._constant_pooling = False

    def own(self, method: str, batch: Reports, targets: Tensor) -> Tensor:
        """`pooling`, the decomposition that the shipped model explains itself with, or its pooling's `attention`."""
        windows = self.windows(batch)
        with torch.no_grad():
            pooled = self._pooled(windows, self._encoded(windows))
            embeds = self.network.embed(windows.ids)
        scores = METHODS[method](self.network, windows, embeds, pooled, {self.name: targets.to(self.device)})
        return scores[self.name][windows.text].float()

    def logits(self, batch: Reports, embeds: Tensor | None = None) -> Tensor:
        windows = self.windows(batch)
        states = self._encoded(windows) if embeds is None else self._differentiable(windows, embeds)
        return self._pooled(windows, states).logits[self.name]

    def windows(self, batch: Reports) -> Batch:
        return super().windows(batch if self.config.paired else replace(batch, pairs=[None] * len(batch)))

    def _encoded(self, windows: Batch) -> Tensor:
        """Token states; windows that were encoded before, for another copy or task, are not encoded again."""
        if not len(windows.ids):
            return torch.zeros(*windows.ids.shape, self.network.encoder.config.hidden_size, device=self.device)
        # Under the rules of relevance the last bits of a state may be others.
        known = Remembered() if self._constant_pooling else self.remembered
        return known.states(windows, lambda once: self.network.encode(once, chunk=self._chunk(windows)))

    def _differentiable(self, windows: Batch, embeds: Tensor) -> Tensor:
        return self.network.encode(windows, self.inputs(windows, embeds), self._chunk(windows))

    def _pooled(self, windows: Batch, states: Tensor) -> Pooled:
        name = self.name
        found = self.network.pools[name](states, windows, self._constant_pooling)
        return Pooled(states, {name: found}, {name: self.network.heads[name](found.context)})

    def _chunk(self, windows: Batch) -> int:
        return max(1, 2 * self.system.budget // max(1, windows.ids.shape[1]))
