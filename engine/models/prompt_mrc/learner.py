"""The extractor as a learner: each window asked for the types it has and some it has not, tokens masked at random.

A window's loss under a type is L = (w_s L_s + w_e L_e + w_m L_m) / (w_s + w_e + w_m), the weights of the base model's script (Li
et al. 2020): binary cross-entropy of start logits over the first pieces of words and of end logits over the last ones, and of
match logits over pairs of predicted or marked starts with such ends, and a few pairs at random. Sums over tokens are divided by a
constant and not by the batch's tokens, so that a record's loss is the same whatever stands beside it. Masking replaces dropout.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.batching import micro_batch, token_budget_batches
from engine.models.adapter import attach
from engine.models.prompt_mrc.config import Decoding, LearnConfig, MrcConfig
from engine.models.prompt_mrc.decode import Candidate, candidates, settle
from engine.models.prompt_mrc.instances import Marked, Span, Window, chosen_types, flat, inside, marked, tags, windows
from engine.models.prompt_mrc.network import Contexts, Found, MrcNetwork, collate
from engine.models.prompt_mrc.prompts import VECTORS
from engine.records import seed_of
from engine.text.tokens import TokenizedText

# Tokens that a sum over tokens counts as one.
_TOKENS = 64.0
_HEADS = ("start.", "end.", "match.", "tagger.")


@dataclass(frozen=True)
class Examples:
    """Texts as tokens with their spans in words, and which are for training and which for validation [n].

    `known` are the numbers of the types that were marked in each text's corpus, where that is not all of them.
    """

    record_id: list[str]
    tokens: list[TokenizedText]
    spans: list[list[Span]]
    train: np.ndarray
    valid: np.ndarray
    known: list[frozenset[int]] | None = None

    @classmethod
    def of(
        cls,
        record_id: Sequence[str],
        texts: Sequence[str],
        tokens: Sequence[TokenizedText],
        spans: Sequence[Sequence[Mapping[str, Any]]],
        split: Sequence[str],
        types: Sequence[str],
    ) -> tuple["Examples", Marked]:
        """From texts and marked characters (`start`, `end`, `type`); also what became of the spans, all texts together.

        Raises:
            ConfigError: a span does not fit its text.
        """
        total, found = Marked(), []
        for name, text, words, own in zip(record_id, texts, tokens, spans, strict=True):
            one = marked(words, len(text), own, types, f"record {name}")
            found.append(one.spans)
            total.spans += one.spans
            total.snapped, total.unread = total.snapped + one.snapped, total.unread + one.unread
            total.repeated += one.repeated
        readable = np.array([len(each.ids) > 0 for each in tokens], dtype=bool)
        parts = np.array(list(split))
        examples = cls(list(record_id), list(tokens), found, (parts == "train") & readable, (parts == "valid") & readable)
        return examples, total

    def overlapping(self, decoding: Decoding) -> int:
        """Spans of train that cannot be found beside longer ones by a model that decodes so; none where spans may nest."""
        if decoding.nested:
            return 0
        spans = [self.spans[member] for member in np.flatnonzero(self.train)]
        return sum(len(each) - len(flat(each, decoding.flat_across_types)) for each in spans)


def prepare_training(network: MrcNetwork) -> MrcNetwork:
    """Frees and freezes what the model's configuration says, in place; what is there for training alone is attached."""
    config: MrcConfig = network.config
    if config.freeze_encoder:
        network.encoder.requires_grad_(False)
    elif config.rank:
        attach(network.encoder, config.rank)
    else:
        network.encoder.requires_grad_(True)
    for name, value in network.named_parameters():
        if name.startswith(_HEADS):
            value.requires_grad_(not config.freeze_heads)
    return network


class MrcLearner:
    """See `engine.training.loop.Learner`."""

    def __init__(
        self,
        network: MrcNetwork,
        examples: Examples,
        config: LearnConfig,
        device: torch.device,
        decoding: Decoding | None = None,
    ) -> None:
        self.network = network.to(device)
        self.examples = examples
        self.config = config
        self.device = device
        self.decoding = network.config.possible(decoding or Decoding())
        self.types = list(range(len(network.config.types)))

    def parameters(self) -> Mapping[str, Tensor]:
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    def rates(self) -> Mapping[str, tuple[float, float]]:
        """Soft vectors learn faster and do not decay."""
        return {name: (self.config.soft_rate, 0.0) for name in self.parameters() if name in VECTORS}

    def order(self, epoch: int) -> list[int]:
        members = np.flatnonzero(self.examples.train)
        np.random.default_rng([self.config.seed, epoch]).shuffle(members)
        return members.tolist()

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        return {}

    def losses(self, examples: list[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        shown = [window for member in examples for window in self.windows(member)]
        asked = [self._asked(window, epoch) for window in shown]
        for group in self._batches(shown, [len(types) for types in asked]):
            mine, types = [shown[at] for at in group], [asked[at] for at in group]
            contexts = self._masked(collate(mine, self.network.config.special), mine, epoch).to(self.device)
            if self.network.config.is_tagger:
                found = self.network(contexts, [0])
                terms = {"tags": self._tag_loss(found, mine)}
            else:
                found, row = self._answered(contexts, types)
                terms = self._span_losses(found, contexts, mine, row, epoch)
            yield terms, int(contexts.mask.sum())

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Exact precision, recall and F1 of spans on the held-back texts, over all types and for each (`f1_<type>`)."""
        members = np.flatnonzero(self.examples.valid).tolist()
        found = self.predict(members)
        gold = {(member, span.first, span.last, span.type) for member in members for span in self.examples.spans[member]}
        said = {(each.text, each.first, each.last, each.type) for each in found if self.is_known(each.text, each.type)}
        told = dict(zip(("precision", "recall", "f1"), exact(gold, said), strict=True))
        for number, name in enumerate(self.network.config.types):
            here = [{each for each in some if each[3] == number} for some in (gold, said)]
            if here[0] and len(self.types) > 1:
                told[f"f1_{name}"] = exact(*here)[2]
        return told

    @torch.no_grad()
    def predict(self, members: Sequence[int]) -> list[Candidate]:
        """The spans of some texts; `text` of each is the example's number."""
        shown = [window for member in members for window in self.windows(member)]
        prompts = [0] if self.network.config.is_tagger else self.types
        per_text: dict[int, list[Candidate]] = {}
        for group in self._batches(shown, [len(prompts)] * len(shown)):
            mine = [shown[at] for at in group]
            contexts = collate(mine, self.network.config.special).to(self.device)
            answers = self.network(contexts, prompts)
            for each in candidates(self.network, answers, contexts, mine, self.types, self.decoding)[0]:
                per_text.setdefault(each.text, []).append(each)
        return [each for text in sorted(per_text) for each in settle(per_text[text], self.decoding)]

    def is_known(self, member: int, kind: int) -> bool:
        """Whether a type was marked in an example's corpus."""
        return self.examples.known is None or kind in self.examples.known[member]

    def windows(self, member: int) -> list[Window]:
        """All windows of an example."""
        tokens, config = self.examples.tokens[member], self.network.config
        return windows(member, tokens.ids, tokens.word_of_token, config.window, config.overlap)

    def _batches(self, shown: Sequence[Window], prompts: Sequence[int]) -> list[list[int]]:
        longest = 0 if self.network.config.is_tagger else max((len(each) for each in self.network.queries), default=0)
        room = longest + self.network.config.soft + 3
        budget = micro_batch(self.config.budget or 0, self.device.type, on_cpu=1024)
        return token_budget_batches(prompts, [len(window) + room for window in shown], budget)

    def _rng(self, window: Window, what: str, epoch: int) -> np.random.Generator:
        name = self.examples.record_id[window.text]
        return np.random.default_rng(seed_of(name, what, window.start, epoch, self.config.seed))

    def _asked(self, window: Window, epoch: int) -> list[int]:
        if self.network.config.is_tagger:
            return [0]
        present = [kind for _, _, kind in inside(window, self.examples.spans[window.text])]
        known = None if self.examples.known is None else self.examples.known[window.text]
        return chosen_types(present, len(self.types), self.config.negatives, self._rng(window, "types", epoch), known)

    def _masked(self, contexts: Contexts, shown: Sequence[Window], epoch: int) -> Contexts:
        hidden = np.zeros(contexts.ids.shape, bool)
        for row, window in enumerate(shown):
            rng = self._rng(window, "mask", epoch)
            share = self.config.masking * rng.random() ** 2
            hidden[row, : len(window)] = rng.random(len(window)) < share
        ids = contexts.ids.masked_fill(torch.from_numpy(hidden), self.network.config.special[3])
        return replace(contexts, ids=ids)

    def _answered(self, contexts: Contexts, types: Sequence[Sequence[int]]) -> tuple[Found, list[tuple[int, int]]]:
        """Logits of each window under its own types, and (window, type) of each row."""
        row = [(number, kind) for number, some in enumerate(types) for kind in some]
        used = sorted({kind for _, kind in row})
        asked, read = self.network.ask(used), self.network.read(contexts)
        window = torch.tensor([number for number, _ in row], device=self.device)
        prompt = torch.tensor([used.index(kind) for _, kind in row], device=self.device)
        return self.network.answer(contexts, read, asked, window, prompt), row

    def _span_losses(
        self, found: Found, contexts: Contexts, shown: Sequence[Window], row: Sequence[tuple[int, int]], epoch: int
    ) -> dict[str, Tensor]:
        shape = tuple(found.start.shape)
        starts, ends = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        spans: list[set[tuple[int, int]]] = []
        for place, (number, kind) in enumerate(row):
            held = inside(shown[number], self.examples.spans[shown[number].text])
            mine = {(a, b) for a, b, of in held if of == kind}
            starts[place, [a for a, _ in mine]] = 1
            ends[place, [b for _, b in mine]] = 1
            spans.append(mine)
        window = torch.tensor([number for number, _ in row], device=self.device)
        w_s, w_e, w_m = (weight / sum(self.config.weights) for weight in self.config.weights)
        terms = {
            "start": w_s * _masked_sum(found.start, starts, contexts.starts[window]),
            "end": w_e * _masked_sum(found.end, ends, contexts.ends[window]),
        }
        if w_m:
            terms["match"] = w_m * self._match_loss(found, contexts, shown, row, (starts, ends), spans, epoch)
        return terms

    def _match_loss(
        self,
        found: Found,
        contexts: Contexts,
        shown: Sequence[Window],
        row: Sequence[tuple[int, int]],
        gold: tuple[np.ndarray, np.ndarray],
        spans: Sequence[set[tuple[int, int]]],
        epoch: int,
    ) -> Tensor:
        """The sum over rows of the mean over their pairs; a row without pairs gives nothing."""
        said = [
            (logits.detach() > 0).cpu().numpy() | (marks > 0)
            for logits, marks in zip((found.start, found.end), gold, strict=True)
        ]
        flags = contexts.starts.cpu().numpy(), contexts.ends.cpu().numpy()
        places, labels, weights = [], [], []
        for place, (number, kind) in enumerate(row):
            window = shown[number]
            starts, ends = (np.flatnonzero(each[place] & flag[number]) for each, flag in zip(said, flags, strict=True))
            pairs = _pairs(window, starts, ends, self.network.config.max_words)
            rng = self._rng(window, f"pairs{kind}", epoch)
            anywhere = [np.flatnonzero(flag[number]) for flag in flags]
            # A window within one long word has no start of a word, or no end.
            if all(map(len, anywhere)):
                drawn = np.stack([rng.choice(each, self.config.random_pairs) for each in anywhere], 1)
                pairs |= {(int(a), int(b)) for a, b in drawn if a <= b}
            ordered = sorted(pairs)
            places += [(place, a, b) for a, b in ordered]
            labels += [float(pair in spans[place]) for pair in ordered]
            weights += [1.0 / max(1, len(ordered))] * len(ordered)
        if not places:
            return found.start.sum() * 0
        at = torch.tensor(places, device=self.device).unbind(-1)
        logits = self.network.match(found.states, *at)
        target, weight = (torch.tensor(each, device=self.device) for each in (labels, weights))
        return functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")

    def _tag_loss(self, found: Found, shown: Sequence[Window]) -> Tensor:
        gold = np.full(tuple(found.tags.shape[:3]), -1, np.int64)
        for place, window in enumerate(shown):
            labels = tags(window, flat(self.examples.spans[window.text]), len(self.types))
            labels[:, [kind for kind in self.types if not self.is_known(window.text, kind)]] = -1
            gold[place, : len(window)][window.starts] = labels[window.starts]
        target = torch.from_numpy(gold).to(self.device)
        loss = functional.cross_entropy(found.tags.flatten(0, 2), target.flatten(), ignore_index=-1, reduction="sum")
        return loss / _TOKENS


def exact(gold: set[Any], said: set[Any]) -> tuple[float, float, float]:
    """Precision, recall and F1 of equal elements; 0 where there is nothing to divide by."""
    right = len(gold & said)
    precision, recall = right / len(said) if said else 0.0, right / len(gold) if gold else 0.0
    return precision, recall, 2 * right / (len(gold) + len(said)) if gold or said else 0.0


def _pairs(window: Window, starts: np.ndarray, ends: np.ndarray, longest: int) -> set[tuple[int, int]]:
    gap = window.word[ends][None, :] - window.word[starts][:, None]
    i, j = np.nonzero((gap >= 0) & (gap < longest))
    return set(zip(starts[i].tolist(), ends[j].tolist(), strict=True))


def _masked_sum(logits: Tensor, target: np.ndarray, flags: Tensor) -> Tensor:
    loss = functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(target).to(logits.device), reduction="none")
    return (loss * flags).sum() / _TOKENS
