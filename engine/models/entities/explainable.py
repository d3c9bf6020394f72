"""Systems of entities as models that every method of `engine.explain` can explain: spans, each in one window.

The positions of a span are the tokens of its window, and whatever a system has beside the text; special tokens are no positions
and are never erased. The blank of a token is [MASK].
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.errors import ContractError
from engine.explain.boundary import boundary_shares, shift_margins
from engine.explain.explain import explained, work_for
from engine.explain.explanation import NOT_FINITE, Target, evidence_rows, top_spans
from engine.explain.rules import relevance_rules
from engine.explain.settings import Settings
from engine.explain.stability import perturbed, stability
from engine.models.entities.candidates import Candidate, select
from engine.models.entities.spans import Window, collate
from engine.text.units import Beside, Units

# The columns of shares, by the kind of units that they are of.
SHARES = {"word": "context_share", "prompt": "hard_share", "soft_prompt": "soft_share"}


class Place(NamedTuple):
    """Where a span lies: its window, the number of its type, and offsets and flags of the words of the whole text."""

    window: Window
    type: int
    word_start: np.ndarray
    word_end: np.ndarray
    word_spoken: np.ndarray


class Noise(NamedTuple):
    """Gaussian noise on the embeddings of `places` [positions], of `scale` times the root of their mean square."""

    places: np.ndarray
    seed: int
    scale: float


@dataclass(frozen=True)
class Spans:
    """Spans to explain, with their units and ids in the same order; `kept` [positions] is false where a position is erased, and
    `noise` is that on a span's positions."""

    places: Sequence[Place]
    units: Sequence[Units]
    record_ids: Sequence[str]
    kept: Sequence[np.ndarray]
    noise: Sequence[Noise | None]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def windows(self) -> list[Window]:
        return [place.window for place in self.places]

    @property
    def types(self) -> list[int]:
        return [place.type for place in self.places]


@dataclass(frozen=True)
class Inputs:
    """The network's inputs: a batch with a row for each span, its embeddings [N, L, D], and flags [N, L] of the positions."""

    batch: Any
    embeds: Tensor
    positions: Tensor


class SpanModel:
    """See `SpanExplainable` and `Perturbable` in `engine.explain.protocol`. A target [2] is the first and the last token of a
    span in its window.

    A subclass implements `span_scores` and `probability`. A system whose network reads more than windows of tokens also overrides
    `beside`, `inputs`, `blanks`, `outputs_of` and `candidates`.
    """

    score_kind = "logit"
    own_methods: frozenset[str] = frozenset()
    # What `fused` joins in the rows of a run.
    fuse: tuple[str, ...] = Settings.fuse

    def __init__(self, system: Any) -> None:
        """`system` is the `EntitySystem` to explain."""
        self.system, self.network, self.config = system, system.network, system.config
        self.decoding, self.names, self.tokenizer = system.decoding, system.names, system.tokenizer
        self.device = next(self.network.parameters()).device

    def span_scores(self, outputs: Any, batch: Spans, rows: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """F [n] of spans from token `first` to `last` [n] in `rows` [n] of a batch, of the type of that row."""
        raise NotImplementedError

    def probability(self, batch: Spans, targets: Tensor) -> Tensor:
        """See `Explainable`; the span's score, as in its row."""
        raise NotImplementedError

    def beside(self, place: Place) -> Sequence[Beside]:
        """What the network reads beside the text, a unit for each position."""
        return ()

    def inputs(self, batch: Spans) -> Inputs:
        """The network's inputs, without erasures."""
        windows = collate(batch.windows, self.config.special).to(self.device)
        return Inputs(windows, self.network.embed(windows.ids), windows.text)

    def blanks(self, inputs: Inputs) -> Tensor:
        """The embeddings [positions, D] of erased positions."""
        mask = self.network.embed(torch.tensor(self.config.special[3], device=self.device)).float()
        return mask.expand(int(inputs.positions.sum()), -1)

    def outputs_of(self, inputs: Inputs, embeds: Tensor) -> Any:
        """The network's outputs, as those of the system, with other embeddings [N, L, D]."""
        return self.network(inputs.batch, embeds)[:, 1:]

    def candidates(self, outputs: Any, batch: Spans) -> Iterator[list[Candidate]]:
        """The candidates in the window of each span."""
        for row, window in enumerate(batch.windows):
            yield self.system.decode([window], outputs[row : row + 1], self.decoding)[0]

    def spans(self, places: Sequence[Place], record_ids: Sequence[str]) -> Spans:
        """Spans as a batch."""
        units = [self._units(place) for place in places]
        kept = [np.ones(len(each.of_position), dtype=bool) for each in units]
        return Spans(places, units, record_ids, kept, [None] * len(units))

    def record_ids(self, batch: Spans) -> list[str]:
        return list(batch.record_ids)

    def sizes(self, batch: Spans) -> np.ndarray:
        return np.array([len(kept) for kept in batch.kept], dtype=np.int64)

    def units(self, batch: Spans) -> list[Units]:
        return list(batch.units)

    def named(self, batch: Spans, targets: Tensor) -> list[Target]:
        named = []
        for units, kind, (first, last) in zip(batch.units, batch.types, targets.tolist(), strict=True):
            start, end = units.start[units.of_position[first]], units.end[units.of_position[last]]
            named.append(Target(self.names[kind], "span", int(start), int(end)))
        return named

    def take(self, batch: Spans, members: Sequence[int]) -> Spans:
        return Spans(*([column[member] for member in members] for column in vars(batch).values()))

    def erase(self, batch: Spans, keep: np.ndarray, how: str = "mask") -> Spans:
        if how != "mask":
            raise ContractError("nothing can be taken out of a text whose spans are explained")
        return replace(batch, kept=[old & new for old, new in zip(batch.kept, self._split(batch, keep), strict=True)])

    def spared(self, batch: Spans, targets: Tensor) -> list[np.ndarray]:
        return [np.zeros(len(units), dtype=bool) for units in batch.units]

    def variants(self, token: int, rng: np.random.Generator) -> int:
        """Another token of the class of one, drawn; the token itself if there is none. A system whose model has some names
        `replace` among its `perturbs`."""
        return token

    def replaced(self, batch: Spans, chosen: np.ndarray, seeds: Sequence[int]) -> Spans:
        places = []
        for place, flags, seed in zip(batch.places, self._split(batch, chosen), seeds, strict=True):
            ids, rng = place.window.ids.copy(), np.random.default_rng(seed)
            for at in np.flatnonzero(flags[: len(ids)]):
                ids[at] = self.variants(int(ids[at]), rng)
            places.append(place._replace(window=replace(place.window, ids=ids)))
        return replace(batch, places=places)

    def noised(self, batch: Spans, chosen: np.ndarray, seeds: Sequence[int], scale: float) -> Spans:
        flags = self._split(batch, chosen)
        return replace(batch, noise=[Noise(each, seed, scale) for each, seed in zip(flags, seeds, strict=True)])

    @torch.no_grad()
    def embed(self, batch: Spans) -> Tensor:
        return self._embeds(batch, self.inputs(batch))

    @torch.no_grad()
    def blank(self, batch: Spans) -> Tensor:
        return self.blanks(self.inputs(batch))

    def score(self, batch: Spans, targets: Tensor, *, embeds: Tensor | None = None) -> Tensor:
        return self._score(self.outputs(batch, embeds), batch, torch.arange(len(batch)), *targets.unbind(-1))

    def holds(self, batch: Spans, targets: Tensor) -> Tensor:
        """Whether the span is among those that its window gives."""
        held = []
        for place, found, tokens in zip(batch.places, self.candidates(self.outputs(batch), batch), targets.tolist(), strict=True):
            held.append((place.type, *tokens) in {(span.type, *span.tokens) for span in select(found, self.decoding)})
        return torch.tensor(held, dtype=torch.bool)

    @torch.no_grad()
    def shift_margin(self, batch: Spans, targets: Tensor) -> Tensor:
        outputs = self.outputs(batch)
        own = self._score(outputs, batch, torch.arange(len(batch)), *targets.unbind(-1)).double().cpu()
        near = [(row, *span) for row, tokens in enumerate(targets.tolist()) for span in _shifted(batch.windows[row], *tokens)]
        best = torch.full_like(own, float("-inf"))
        if near:
            rows, first, last = torch.tensor(near).unbind(-1)
            best.scatter_reduce_(0, rows, self._score(outputs, batch, rows, first, last).double().cpu(), "amax")
        return torch.where(best.isinf(), torch.nan, own - best)

    def relevance_rules(self) -> AbstractContextManager[None]:
        """The rules of the network's `encoder`; a network without one counts as linear in its embeddings."""
        encoder = getattr(self.network, "encoder", None)
        return nullcontext() if encoder is None else relevance_rules(encoder)

    def own(self, method: str, batch: Spans, targets: Tensor) -> Tensor:
        raise ContractError(f"an extractor has no method '{method}' of its own")

    def outputs(self, batch: Spans, embeds: Tensor | None = None) -> Any:
        """The network's outputs, a row for each span, with other embeddings of the positions if they are given."""
        with torch.no_grad():
            inputs = self.inputs(batch)
            embeds = self._embeds(batch, inputs) if embeds is None else embeds
        whole = inputs.embeds.clone()
        whole[inputs.positions] = embeds.to(whole.dtype)
        return self.outputs_of(inputs, whole)

    def _score(self, outputs: Any, batch: Spans, *places: Tensor) -> Tensor:
        return self.span_scores(outputs, batch, *(each.to(self.device) for each in places))

    def _embeds(self, batch: Spans, inputs: Inputs) -> Tensor:
        embeds, kept = inputs.embeds[inputs.positions].float(), np.concatenate([np.empty(0, bool), *batch.kept])
        if any(noise is not None for noise in batch.noise):
            embeds = self._with_noise(batch, embeds)
        if kept.all():
            return embeds
        return torch.where(torch.from_numpy(kept).to(self.device).unsqueeze(-1), embeds, self.blanks(inputs))

    def _with_noise(self, batch: Spans, embeds: Tensor) -> Tensor:
        """Embeddings [positions, D] with the noise of each span."""
        rows = []
        for row, noise in zip(torch.split(embeds, self.sizes(batch).tolist()), batch.noise, strict=True):
            if noise is not None and noise.places.any():
                places = torch.from_numpy(noise.places).to(row.device)
                drawn = np.random.default_rng(noise.seed).standard_normal((int(noise.places.sum()), row.shape[1]), np.float32)
                size = noise.scale * row[places].square().mean().sqrt()
                row = row.index_put((places,), row[places] + size * torch.from_numpy(drawn).to(row.device))
            rows.append(row)
        return torch.cat(rows)

    def _split(self, batch: Spans, flags: np.ndarray) -> list[np.ndarray]:
        """A flat row [positions] of flags, split into one array for each span."""
        return np.split(flags, np.cumsum(self.sizes(batch))[:-1])

    def _units(self, place: Place) -> Units:
        first, stop = int(place.window.word[0]), int(place.window.word[-1]) + 1
        beside = self.beside(place)
        return Units(
            "word",
            place.word_start[first:stop],
            place.word_end[first:stop],
            np.concatenate([place.window.word - first, stop - first + np.arange(len(beside))]),
            place.word_spoken[first:stop].astype(bool),
            tuple(beside),
        )


def _shifted(window: Window, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Spans of a window that differ from the one from token `first` to `last` by one word more or less at the start or end."""
    starts, ends = np.flatnonzero(window.starts), np.flatnonzero(window.ends)
    begin, stop = int(np.searchsorted(starts, first)), int(np.searchsorted(ends, last))
    yield from ((int(starts[at]), last) for at in (begin - 1, begin + 1) if 0 <= at < len(starts) and starts[at] <= last)
    yield from ((first, int(ends[at])) for at in (stop - 1, stop + 1) if 0 <= at < len(ends) and ends[at] >= first)


def evidence(
    model: SpanModel, batch: Spans, tokens: Sequence[tuple[int, int]], method: str, spans: int, measured: Sequence[bool] = ()
) -> list[dict[str, Any]]:
    """The columns of each entity that explain it by a method: `evidence`, its `spans` strongest runs of words, and
    `context_share`, `hard_share` and `soft_share`, how much of all units' absolute scores text, template and soft prompt have;
    `boundary_mass` and `boundary_lift`, see `boundary_shares`; of those `measured` also `stability` and `shift_margin`.

    Args:
        tokens: the first and the last token of each entity of the batch. All are explained in one pass.
        measured: flags of the entities that are explained again in changed copies; of none by default.
    Raises:
        ValueError: a score is not finite.
    """
    settings = Settings(tokens_per_pass=max(1, int(model.sizes(batch).sum())), residual=False, fuse=model.fuse)
    work, rows = work_for(model, batch, torch.tensor(tokens), settings), []
    explanations = explained(work, method)
    for explanation, units in zip(explanations, batch.units, strict=True):
        if explanation.status == NOT_FINITE:
            raise ValueError("a score is not finite")
        shares = {column: explanation.shares.get(kind, 0.0) for kind, column in SHARES.items()}
        runs = evidence_rows(explanation.of_text, top_spans(explanation, spans, units.spoken))
        mass, lift = boundary_shares(explanation)
        shares |= {"boundary_mass": mass, "boundary_lift": lift}
        rows.append({"evidence": [run | {"weight": run["weight"] * shares["context_share"]} for run in runs], **shares})
    members = [member for member, chosen in enumerate(measured) if chosen]
    if members:
        part = work.only(members)
        stable = stability(part, method, [explanations[member] for member in members], perturbed(part), explained)
        for member, value, margin in zip(members, stable, shift_margins(part), strict=True):
            rows[member] |= {"stability": value.value, "shift_margin": margin}
    return rows
