"""The entities of a run as targets of explanation, each in the window that gave it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError, RowError
from engine.models.base import ModelSpec, load
from engine.models.columns import list_values
from engine.models.entities.spans import Span, Window, spans_within
from engine.models.entities.system import EntitySystem, entity_id
from engine.models.explained import Group
from engine.models.tokens import WORDS

if TYPE_CHECKING:
    from engine.explain.passes import Work
    from engine.explain.settings import Settings

# Options of a run that do not affect its answers.
_EVIDENCE = ("evidence", "spans", "every", "stability")


class ExplainedEntities:
    """See `engine.models.explained.Explained`."""

    columns = ("entities",)
    own_methods: frozenset[str] = frozenset()
    erasures = ("mask",)
    kind = "an extractor of entities"

    def __init__(self, system: EntitySystem, names: Sequence[str], targets: Mapping[str, str]) -> None:
        self.system, self.perturbs = system, system.perturbs
        types = [system.names[number] for number in system.types]
        for name in names:
            if name not in types:
                raise ConfigError(f"explain.tasks: the run looked for no type '{name}'; it did for {', '.join(types)}")
        if targets:
            raise ConfigError("explain.targets: entities have no codes that could replace an answer; leave it out")
        self.names = tuple(names or types)

    def asked(self, answer: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        if answer is None:
            return [{"name": self.names[0], "start": None, "end": None}]
        entities = [entity for entity in answer["entities"] if entity["type"] in self.names]
        return [{"name": entity["type"], "start": entity["start"], "end": entity["end"]} for entity in entities]

    def sizes(self, prepared: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        tokens = [len(ids) for ids in list_values(prepared["input_ids"])]
        return np.array(tokens, np.int64), np.array(list(map(len, self.system.windows(prepared))), np.int64)

    def groups(self, prepared: pa.Table, settings: "Settings") -> list[Group]:
        import torch

        from engine.explain.explain import work_for
        from engine.models.entities.explainable import Place

        ids, asked = prepared["record_id"].to_pylist(), prepared["asked"].to_pylist()
        words = list(zip(*(list_values(prepared[name]) for name in WORDS[2:]), strict=True))
        entities, places, tokens = [], [], []
        for row, (windows, wanted) in enumerate(zip(self.system.windows(prepared), asked, strict=True)):
            for entity in wanted:
                kind = self.system.names.index(entity["name"])
                for window, first, last in _windows_with(_span(entity, kind, *words[row][:2]), windows):
                    entities.append((row, entity_id(ids[row], entity["start"], entity["end"], entity["name"])))
                    places.append(Place(window, kind, *words[row]))
                    tokens.append((first, last))
        if not places:
            return []
        model = self.system.span_model
        batch, targets = model.spans(places, [name for _, name in entities]), torch.tensor(tokens)
        held, chosen = self._best(entities, work_for(model, batch, targets, settings))
        rows = [entities[place][0] for place in chosen]
        return [Group(model, model.take(batch, chosen), targets[chosen], rows, [bool(held[each]) for each in chosen])]

    def _best(self, entities: Sequence[tuple[int, str]], work: "Work") -> tuple[np.ndarray, list[int]]:
        """Which spans the model gives in their windows, and for each entity the place in which it is explained: preferably one
        where the model gives it, then the one that `candidates.select` prefers."""
        import torch

        score, held = work.whole("probability"), np.zeros(work.records, bool)
        with torch.no_grad():
            for members, batch, targets in work.passes(range(work.records)):
                held[members] = work.model.holds(batch, targets).numpy()

        def rank(place: int) -> tuple[bool, bool, float, int]:
            window = work.batch.places[place].window
            return bool(held[place]), not window.cuts(*work.targets[place].tolist()), float(score[place]), -window.start

        best: dict[tuple[int, str], int] = {}
        for place, entity in enumerate(entities):
            if entity not in best or rank(place) > rank(best[entity]):
                best[entity] = place
        return held, list(best.values())


def _span(entity: Mapping[str, Any], kind: int, start: np.ndarray, end: np.ndarray) -> Span:
    """The words that an entity covers, of those that begin and end at the characters `start` and `end` [words]."""
    if entity["start"] is None:
        return Span(0, 0, kind)
    first, last = int(np.searchsorted(start, entity["start"])), int(np.searchsorted(end, entity["end"]))
    if not first <= last < len(end) or (start[first], end[last]) != (entity["start"], entity["end"]):
        raise RowError("not_coded", "an entity of the run is no run of the text's words")
    return Span(first, last, kind)


def _windows_with(span: Span, windows: Sequence[Window]) -> list[tuple[Window, int, int]]:
    """The windows that hold a span whole, with its first and last token there."""
    held = [(window, first, last) for window in windows for first, last, _ in spans_within(window, [span])]
    if not held:
        raise RowError("not_coded", "an entity of the run lies in no window")
    return held


def explained(spec: ModelSpec, names: Sequence[str], targets: Mapping[str, str]) -> ExplainedEntities:
    """`explained.load` of a package with a system of entities."""
    options = {name: value for name, value in spec.options.items() if name not in _EVIDENCE}
    return ExplainedEntities(load(replace(spec, options={**options, "evidence": "none"})), names, targets)
