"""The tagger as a learner: cross-entropy or the CRF's likelihood of the tags of words, with tokens masked at random, and in
guided phases the three constraints (see `constraints`), whose weights grow linearly over the first epoch.

In a guided phase each window comes with a changed copy, of which a tenth of the words outside entities is masked and another
tenth replaced by a token of its class. The tags of window and copy must agree at the words that neither changes. Of a share of
the windows the saliency of the drawn entity is guided too, and that of the copy must be the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.base import Worker
from engine.models.entities.candidates import Candidate
from engine.models.entities.examples import Examples
from engine.models.entities.learner import EntityLearner
from engine.models.entities.spans import Window, collate, spans_within, without_overlaps
from engine.models.guided_ner import constraints
from engine.models.guided_ner.begin import begun, vocabulary_of
from engine.models.guided_ner.config import GRADIENT, Config, Decoding, LearnConfig
from engine.models.guided_ner.decode import by_window
from engine.models.guided_ner.network import Network, Words, log_odds
from engine.models.guided_ner.targets import TARGETS, TOKENS, Target, global_table, read_targets
from engine.models.guided_ner.vocabulary import Vocabulary
from engine.models.masked_words import MaskedWords
from engine.models.tokens import Batch

# A sum over words is divided by this.
_WORDS = 64.0
_CHANGED = 0.1


def words_learner(settings: Mapping[str, Any], worker: Worker) -> MaskedWords:
    """The first phase of an encoder of characters: it guesses hidden ones of the training texts."""
    stored = worker.examples(settings["examples"])
    examples, config = Examples.from_table(stored.whole()), Config(**stored.facts["config"])
    pieces = [
        (f"{examples.record_id[member]} {at}", examples.tokens[member].ids[at : at + config.window])
        for member in np.flatnonzero(examples.train).tolist()
        for at in range(0, len(examples.tokens[member].ids), config.window)
    ]
    names, ids = zip(*pieces, strict=True)
    torch.manual_seed(settings["seed"])
    network = Network(config)
    return MaskedWords(network.encoder, config.special, ids, names, seed=settings["seed"], device=worker.device)


def learner(settings: Mapping[str, Any], worker: Worker) -> "TagLearner":
    """The network as the phase before left it, and all texts of the training and the validation set as numbers."""
    stored = worker.examples(settings["examples"])
    network = begun(settings, stored.facts, worker.device)
    learn = LearnConfig(**{**settings["learn"], "seed": settings["seed"] + 1000 * settings["round"]})
    targets: Mapping[tuple[str, int], Target] = {}
    if settings["round"]:
        network.glob.data = global_table(settings["tables"][TOKENS], *network.glob.shape).to(worker.device)
        targets = read_targets(settings["tables"][TARGETS])
    decoding = Decoding(longest=stored.facts["longest"])
    examples, vocabulary = Examples.from_table(stored.whole()), vocabulary_of(stored.facts)
    return TagLearner(network, examples, learn, worker.device, decoding, vocabulary, targets, bool(settings["round"]))


class TableLearner:
    """The last phase of a training without guidance: it learns nothing, and hands on the global table, so that this tagger has
    the method `global` too."""

    def __init__(self, settings: Mapping[str, Any], worker: Worker) -> None:
        config = Config(**worker.examples(settings["examples"]).facts["config"])
        table = global_table(settings["tables"][TOKENS], config.encoder["vocab_size"], len(config.types))
        self.table = nn.Parameter(table.to(worker.device))

    def parameters(self) -> Mapping[str, Tensor]:
        return {"glob": self.table}

    def order(self, epoch: int) -> list[int]:
        return [0]

    def losses(self, examples: Sequence[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        return iter(())

    def validate(self) -> Mapping[str, float]:
        return {}

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        return {}


class TagLearner(EntityLearner):
    """See `engine.models.entities.learner`."""

    def __init__(
        self,
        network: Network,
        examples: Examples,
        config: LearnConfig,
        device: torch.device,
        decoding: Decoding,
        vocabulary: Vocabulary,
        targets: Mapping[tuple[str, int], Target],
        guided: bool,
    ) -> None:
        super().__init__(network, examples, config, device, decoding)
        self.vocabulary, self.targets, self.guided = vocabulary, targets, guided
        members = self.order(0)
        self.place = {member: (at + 1) / len(members) for at, member in enumerate(members)}
        self._entropy: list[float] = []

    def losses(self, examples: list[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        windows = [window for member in examples for window in self.windows(member) if window.starts.any()]
        for batch in self.batches(windows, [1 + self.guided] * len(windows), 2):
            shown = [windows[at] for at in batch]
            plain = self._batch(shown)
            plain.ids[:, 1:] = self.masked(plain.ids[:, 1:], shown, epoch)
            terms = self._guided(plain, shown, epoch) if self.guided else self._labelled(plain, shown)
            yield terms, int(plain.mask.sum()) * (1 + self.guided)

    def found(self, windows: Sequence[Window]) -> Iterator[Candidate]:
        windows = [window for window in windows if window.starts.any()]
        for batch in self.batches(windows, [1] * len(windows), 2):
            shown = [windows[at] for at in batch]
            logits = self.network(self._batch(shown))[:, 1:]
            yield from chain.from_iterable(by_window(self.network, shown, logits, self.types, self.decoding))

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        values, self._entropy = self._entropy, []
        return {"saliency_entropy": (sum(values), len(values))} if values else {}

    def _batch(self, windows: Sequence[Window]) -> Batch:
        return collate(windows, self.network.config.special).to(self.device)

    def _labelled(self, batch: Batch, shown: Sequence[Window]) -> dict[str, Tensor]:
        words, gold = Words(shown, self.device), self._gold(shown)
        return {"tags": self._tag_loss(self.network(batch)[:, 1:], words, gold)}

    def _tag_loss(self, logits: Tensor, words: Words, gold: Tensor) -> Tensor:
        emissions = words.of(logits)
        if self.network.crf is None:
            return functional.cross_entropy(emissions.flatten(0, 1), gold.flatten(), ignore_index=-1, reduction="sum") / _WORDS
        return self.network.crf.loss(emissions, gold, words.mask).sum() / _WORDS

    def _spans(self, window: Window) -> list[tuple[int, int, int]]:
        """The marked spans that a window holds whole, as (first, last, type) in the words that begin in it."""
        begins, spans = window.words[0], without_overlaps(self.examples.spans[window.text], across_types=True)
        held = spans_within(window, spans)
        return [(int((begins < a).sum()), int((begins <= b).sum()) - 1, kind) for a, b, kind in held]

    def _gold(self, shown: Sequence[Window]) -> Tensor:
        """The tags of words [W, N], -1 behind the last one."""
        gold = np.full((len(shown), max(int(window.starts.sum()) for window in shown)), -1, np.int64)
        for row, window in enumerate(shown):
            gold[row, : int(window.starts.sum())] = 0
            for first, last, kind in self._spans(window):
                gold[row, first : last + 1] = 2 + 2 * kind
                gold[row, first] = 1 + 2 * kind
        return torch.from_numpy(gold).to(self.device)

    def _guided(self, plain: Batch, shown: Sequence[Window], epoch: int) -> dict[str, Tensor]:
        words, gold, config = Words(shown, self.device), self._gold(shown), self.config
        copied, unchanged = self._copies(plain, shown, epoch)
        both = _stacked(plain, copied)
        states, _ = self.network.states(both)
        logits, count = self.network.tags(states)[:, 1:], len(shown)
        ramps = torch.tensor([1.0 if epoch else self.place[window.text] for window in shown], device=self.device)
        terms = {"tags": self._tag_loss(logits[:count], words, gold)}
        same = (words.mask & words.of(unchanged.unsqueeze(-1)).squeeze(-1)) * ramps.unsqueeze(1)
        divergence = constraints.divergence(words.of(logits[:count]), words.of(logits[count:]), same)
        terms["stability"] = config.stability * divergence / _WORDS
        chosen = [row for row, window in enumerate(shown) if self._target(window) is not None]
        target = torch.zeros(tuple(gold.shape), device=self.device)
        for row in chosen:
            weights = self._target(shown[row])[3]
            begins = shown[row].word[shown[row].words[0]] - shown[row].word[0]
            target[row, : len(begins)] = torch.from_numpy(weights[begins]).to(self.device)
        edges = self._edge_terms(words.of(states[:count, 1:]), words.of(logits[:count]), gold, target, words.mask, ramps)
        terms["boundary"] = config.boundary * edges / _WORDS
        if chosen:
            for name, value in self._saliency_terms(plain, copied, shown, chosen, ramps).items():
                terms[name] = terms.get(name, 0.0) + value
        return terms

    def _edge_terms(self, states: Tensor, emissions: Tensor, gold: Tensor, target: Tensor, mask: Tensor, ramps: Tensor) -> Tensor:
        """The further weight of words at edges, and the losses of first and last words."""
        tags, inside = gold.clamp(min=0), gold > 0
        starts = tags % 2 == 1
        goes_on = functional.pad((tags[:, 1:] > 0) & (tags[:, 1:] % 2 == 0), (0, 1))
        ends = inside & ~goes_on
        near = starts | ends | functional.pad(starts[:, 1:], (0, 1)) | functional.pad(ends[:, :-1], (1, 0))
        each = functional.cross_entropy(emissions.flatten(0, 1), tags.flatten(), reduction="none").view_as(tags)
        ramped = mask * ramps.unsqueeze(1)
        weighted = (each * constraints.edge_weights((near & mask).float(), target, mask) * ramped).sum()
        return weighted + constraints.edge_loss(self.network.edges(states), starts, ends, ramped)

    def _saliency_terms(
        self, plain: Batch, copied: Batch, shown: Sequence[Window], chosen: Sequence[int], ramps: Tensor
    ) -> dict[str, Tensor]:
        """What the saliency of the drawn entities of some windows adds to each constraint."""
        config, windows, n = self.config, [shown[row] for row in chosen], len(chosen)
        at = torch.tensor(chosen, device=self.device)
        sides = [plain, copied] if config.stability else [plain]
        batch = _stacked(*(_rows(side, at) for side in sides))
        places = [self._target(window) for window in windows] * len(sides)
        words = Words(windows * len(sides), self.device)
        embeds = self.network.embed(batch.ids)
        states, attention = self.network.states(batch, embeds, attention=config.saliency != GRADIENT)
        logits = self.network.tags(states)[:, 1:]
        rows, first, last, kinds = (
            torch.tensor(column, device=self.device)
            for column in zip(*((row, *place[:3]) for row, place in enumerate(places)), strict=True)
        )
        first, last = words.number(rows, first), words.number(rows, last)
        shifts = torch.tensor([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], device=self.device)
        begins, ends = first.unsqueeze(1) + shifts[:, 0], last.unsqueeze(1) + shifts[:, 1]
        possible = (begins >= 0) & (begins <= ends) & (ends < words.mask.sum(1, keepdim=True))
        begins, ends = (torch.where(possible, side, own.unsqueeze(1)) for side, own in ((begins, first), (ends, last)))
        flat = (each.unsqueeze(1).expand_as(begins).flatten() for each in (rows, kinds))
        row_of, kind_of = flat
        scores = log_odds(self.network.spans(logits, words, row_of, begins.flatten(), ends.flatten(), kind_of)).view_as(begins)
        scores = scores.masked_fill(~possible, float("-inf"))
        numbers, count = self._numbers(windows * len(sides), batch)
        text = batch.text.float()
        if config.saliency == GRADIENT:
            saliency = constraints.gradient_saliency(scores[:, 0], embeds, text, numbers, count)
        else:
            bounds = torch.tensor([place[:2] for place in places], device=self.device)
            within = (batch.position >= bounds[:, :1]) & (batch.position <= bounds[:, 1:])
            saliency = constraints.attention_saliency(attention, within.float(), text, numbers, count)
        self._entropy += constraints.entropy(saliency[:n].detach()).tolist()
        target = torch.zeros(n, count, device=self.device)
        for row, (*_, weights) in enumerate(places[:n]):
            target[row, : len(weights)] = torch.from_numpy(weights).to(self.device)
        ramp = ramps[at]
        shifted = constraints.shift_loss(scores[:n, 0], scores[:n, 1:], ramp) / _WORDS
        terms = {
            "consistency": config.consistency * constraints.disagreement(target, saliency[:n], ramp),
            "boundary": config.boundary * shifted,
        }
        if len(sides) > 1:
            terms["stability"] = config.stability * (((saliency[:n] - saliency[n:]) ** 2).sum(-1) * ramp).sum()
        return terms

    def _numbers(self, windows: Sequence[Window], batch: Batch) -> tuple[Tensor, int]:
        """The word of each token [W, L], counted from the window's first one, and how many words the longest window has."""
        numbers = np.zeros(tuple(batch.ids.shape), np.int64)
        for row, window in enumerate(windows):
            numbers[row, 1 : 1 + len(window)] = window.word - window.word[0]
        return torch.from_numpy(numbers).to(self.device), int(numbers.max()) + 1

    def _target(self, window: Window) -> Target | None:
        return self.targets.get((self.examples.record_id[window.text], window.start))

    def _copies(self, plain: Batch, shown: Sequence[Window], epoch: int) -> tuple[Batch, Tensor]:
        """A changed copy of each window, and the tokens [W, L] that are equal in both and not masked."""
        ids, mask = plain.ids.clone(), self.network.config.special[3]
        for row, window in enumerate(shown):
            rng, tokens = self.rng(window, "copy", epoch), window.ids
            free = ~self.vocabulary.spared[tokens]
            for first, last, _ in spans_within(window, self.examples.spans[window.text]):
                free[first : last + 1] = False
            draw = np.where(free, rng.random(len(tokens)), 1.0)
            for place in np.flatnonzero(draw < 2 * _CHANGED).tolist():
                ids[row, 1 + place] = mask if draw[place] < _CHANGED else self.vocabulary.other(int(tokens[place]), rng)
        unchanged = (ids == plain.ids) & (ids != mask)
        return replace(plain, ids=ids), unchanged[:, 1:]


def _stacked(*batches: Batch) -> Batch:
    """Batches of equal width one below the other."""
    names = ("ids", "mask", "text", "types", "record", "position")
    columns = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in names}
    return Batch(**columns, row=[row for batch in batches for row in batch.row])


def _rows(batch: Batch, at: Tensor) -> Batch:
    """Some windows of a batch."""
    names = ("ids", "mask", "text", "types", "record", "position")
    return Batch(**{name: getattr(batch, name)[at] for name in names}, row=[batch.row[row] for row in at.tolist()])
