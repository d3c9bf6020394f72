"""The codes of a run, explained: a target for each task, over whole reports."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from engine.explain.settings import OWN_METHODS
from engine.models.base import ModelSpec
from engine.models.base import load as load_system
from engine.models.code_explained import ExplainedCodes
from engine.models.explained import Group
from engine.models.site_classifier.coder import SiteCoder

if TYPE_CHECKING:
    from engine.explain.settings import Settings
    from engine.models.site_classifier.attributable import SiteExplainable
    from engine.models.site_classifier.window_cache import WindowCache

# Options of a run that say which model it has and what that reads.
_READING = ("max_tokens", "pair", "head", "precision", "deterministic")
# Batches of tokens whose states are cached: the copies of a report of some thousand tokens meet the same windows within these.
_CACHED = 8


class ExplainedSites(ExplainedCodes):
    """See `engine.models.explained.Explained`."""

    def __init__(self, coder: SiteCoder, names: Sequence[str], targets: Mapping[str, str]) -> None:
        super().__init__(coder, names, targets, f"the head '{coder.config.head}'")
        self.own_methods = OWN_METHODS & set(coder.config.evidence_methods)

    def groups(self, prepared: pa.Table, settings: "Settings") -> list[Group]:
        self._cache.clear()
        return super().groups(prepared, settings)

    @cached_property
    def models(self) -> "list[SiteExplainable]":
        from engine.models.site_classifier.attributable import SiteExplainable

        return [SiteExplainable(self.system, name, self._cache) for name in self.names]

    @cached_property
    def _cache(self) -> "WindowCache":
        from engine.models.site_classifier.window_cache import WindowCache

        return WindowCache(_CACHED * self.system.budget)


def load(spec: ModelSpec, names: Sequence[str], targets: Mapping[str, str]) -> ExplainedSites:
    """The coder of a run as an explaining system."""
    options = {name: spec.options[name] for name in _READING if name in spec.options}
    return ExplainedSites(load_system(replace(spec, options={**options, "method": "none", "tasks": ()})), names, targets)
