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
from engine.models.site_classifier.window_cache import WindowCache
from engine.models.tokens import Batch


class SiteExplainable(CodeExplainable):
    """See `engine.explain.protocol.Explainable`."""

    def __init__(self, coder: SiteCoder, name: str, cache: WindowCache | None = None) -> None:
        """`cache` holds encoded windows; the tasks of one coder may share it."""
        if coder.method == "attention_constant":
            raise ContractError("load the coder with another method: this one changes the gradients of its network")
        super().__init__(coder, name)
        self.cache = WindowCache() if cache is None else cache
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
        """The pool's `attention`, or `pooling`, the exact shares of its linear part."""
        windows = self.windows(batch)
        with torch.no_grad():
            pooled = self._pooled(windows, self._encoded(windows))
            embeds = self.network.embed(windows.ids)
        scores = METHODS[method](self.network, windows, embeds, pooled, {self.name: targets.to(self.device)})
        return scores[self.name][windows.text].float()

    def logits(self, batch: Reports, embeds: Tensor | None = None) -> Tensor:
        windows = self.windows(batch)
        if embeds is None:
            states = self._encoded(windows)
        else:
            states = self.network.encode(windows, self.inputs(windows, embeds), self.system.chunk(windows))
        return self._pooled(windows, states).logits[self.name]

    def windows(self, batch: Reports) -> Batch:
        return super().windows(batch if self.config.paired else replace(batch, pairs=[None] * len(batch)))

    def _encoded(self, windows: Batch) -> Tensor:
        """Token states; a window that was encoded before, for another copy or task, comes from the cache."""
        if not len(windows.ids):
            return torch.zeros(*windows.ids.shape, self.network.encoder.config.hidden_size, device=self.device)
        # The rules of relevance may change the last bits of a state.
        cache = WindowCache() if self._constant_pooling else self.cache
        return cache.states(windows, lambda once: self.network.encode(once, chunk=self.system.chunk(windows)))

    def _pooled(self, windows: Batch, states: Tensor) -> Pooled:
        attended = self.network.pools[self.name](states, windows, self._constant_pooling)
        return Pooled(states, {self.name: attended}, {self.name: self.network.heads[self.name](attended.context)})
