"""The extractor as a learner: each window is asked for the types it has and some it has not, with tokens masked at random.

The loss of a window under a type is L = (w_s L_s + w_e L_e + w_m L_m) / (w_s + w_e + w_m), with the weights of the base model's
script (Li et al. 2020): binary cross-entropy of start logits over the first pieces of words, of end logits over the last pieces,
and of match logits over pairs of predicted or marked starts and ends, and a few random pairs. Sums over tokens are divided by a
constant instead of the batch's tokens, so that a record's loss is the same in every batch. Masking replaces dropout.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.encoders import attention_for, encoder_folder, load_tokenizer, pick_precision
from engine.errors import ConfigError
from engine.models.adapter import open_weights
from engine.models.base import Worker
from engine.models.entities.examples import Examples
from engine.models.entities.learner import EntityLearner
from engine.models.entities.spans import Window, bio_tags, spans_within, without_overlaps
from engine.models.prompt_mrc.checkpoint import continue_from, read_checkpoint
from engine.models.prompt_mrc.config import Candidate, Decoding, LearnConfig, ModelConfig, MrcConfig
from engine.models.prompt_mrc.decode import possible_pairs, window_candidates
from engine.models.prompt_mrc.network import Contexts, Logits, MrcNetwork, collate, new_network
from engine.models.prompt_mrc.prompts import VECTORS
from engine.models.prompt_mrc.templates import complete_config
from engine.models.prompt_mrc.wordings import Prompt, Wordings

# A sum over tokens is divided by this.
_TOKENS = 64.0
_RANDOM_PAIRS = 5
_HEADS = ("start.", "end.", "match.", "tagger.")


def learner(settings: Mapping[str, Any], worker: Worker) -> "MrcLearner":
    """The network, and all texts of the training and the validation set as numbers."""
    torch.manual_seed(settings["seed"])
    stored = worker.examples(settings["examples"])
    network, _ = training_network(settings, stored.facts["types"], worker.device)
    learn = LearnConfig(**{**settings["learn"], "seed": settings["seed"]})
    decoding = ModelConfig(**settings["model"]).decodings(stored.facts["nested"], stored.facts["longest"])[-1]
    wordings, further = None, stored.facts["further"]
    if further:
        wordings = Wordings.of(network.config, further, load_tokenizer(encoder_folder(network.config.encoder)))
    return MrcLearner(network, Examples.from_table(stored.whole()), learn, worker.device, decoding, wordings)


def training_network(
    settings: Mapping[str, Any], types: Sequence[str], device: torch.device
) -> tuple[MrcNetwork, dict[str, Tensor]]:
    """The network that training begins with, and the tensors of a base model that its checkpoint keeps."""
    model = ModelConfig(**settings["model"])
    config = complete_config(model.architecture(types, settings["seed"]), model.questions)
    dtype, attention = pick_precision(settings.get("precision", "auto"), str(device)), attention_for(str(device))
    if not config.rank and not config.freeze_encoder:
        # Steps of an encoder whose own weights are tuned are smaller than bf16 can represent.
        dtype = torch.float32
    if not model.base:
        return prepare_training(new_network(config, dtype, attention)), {}
    base = read_checkpoint(model.base)
    if base.digest != settings.get("base_digest", base.digest):
        raise ConfigError("model.base: it is not the model that this training began with; bring it back, or choose a new folder")
    network, kept = continue_from(base, config, dtype, attention)
    return prepare_training(network), kept


def prepare_training(network: MrcNetwork) -> MrcNetwork:
    """Attaches the adapter, if the configuration has one, and freezes and unfreezes weights as it says, in place."""
    config: MrcConfig = network.config
    if config.freeze_encoder:
        network.encoder.requires_grad_(False)
    else:
        open_weights(network.encoder, config.rank)
    for name, value in network.named_parameters():
        if name.startswith(_HEADS):
            value.requires_grad_(not config.freeze_heads)
    return network


class MrcLearner(EntityLearner):
    """See `engine.models.entities.learner`."""

    # Of the losses of start, end and match.
    weights = (1.0, 1.0, 0.1)

    def __init__(
        self,
        network: MrcNetwork,
        examples: Examples,
        config: LearnConfig,
        device: torch.device,
        decoding: Decoding,
        wordings: "Wordings | None" = None,
    ) -> None:
        super().__init__(network, examples, config, device, decoding)
        self.wordings = wordings
        self.tagger = network.config.is_tagger

    def rates(self) -> Mapping[str, tuple[float, float]]:
        """Soft vectors learn faster and do not decay."""
        return {name: (self.config.soft_rate, 0.0) for name in self.parameters() if name in VECTORS}

    def losses(self, examples: list[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        asked = [(window, self._types(window, epoch)) for member in examples for window in self.windows(member)]
        windows, types = [window for window, kinds in asked if kinds], [kinds for _, kinds in asked if kinds]
        for batch in self._batches(windows, [len(each) for each in types]):
            shown = [windows[at] for at in batch]
            plain = collate(shown, self.network.config.special)
            contexts = replace(plain, ids=self.masked(plain.ids, shown, epoch)).to(self.device)
            if self.tagger:
                terms = {"tags": self._tag_loss(self.network(contexts, [0]), shown)}
            else:
                rows = [(number, kind) for number, at in enumerate(batch) for kind in types[at]]
                logits = self._logits(contexts, rows, self._prompts(shown, rows, epoch))
                terms = self._span_losses(logits, contexts, shown, rows, epoch)
            yield terms, int(contexts.mask.sum())

    def found(self, windows: Sequence[Window]) -> Iterator[Candidate]:
        prompts = [0] if self.tagger else self.types
        for batch in self._batches(windows, [len(prompts)] * len(windows)):
            shown = [windows[at] for at in batch]
            contexts = collate(shown, self.network.config.special).to(self.device)
            logits = self.network(contexts, prompts)
            yield from window_candidates(self.network, logits, contexts, shown, self.types, self.decoding)[0]

    def _batches(self, windows: Sequence[Window], prompts: Sequence[int]) -> list[list[int]]:
        longest = max(map(len, self.network.queries)) if self.wordings is None else self.wordings.longest
        return self.batches(windows, prompts, longest + self.network.config.soft + 3)

    def _types(self, window: Window, epoch: int) -> list[int]:
        """The types that a window is asked for; a tagger has one prompt for all of them."""
        if self.tagger:
            return [0]
        present = {kind for _, _, kind in spans_within(window, self.examples.spans[window.text])}
        annotated, rng = self.examples.annotated[window.text], self.rng(window, "types", epoch)
        known = frozenset(self.types)
        kinds = sample_types(present & known, annotated & known, self.config.negatives, rng) if annotated & known else []
        if self.wordings is not None:
            kinds += self.wordings.drawn(present - known, annotated - known, not kinds, rng)
        return kinds

    def _prompts(self, windows: Sequence[Window], rows: Sequence[tuple[int, int]], epoch: int) -> list[Prompt]:
        """What stands in front of each row (window, type)."""
        if self.wordings is None:
            return [(kind, None) for _, kind in rows]
        return [self.wordings.prompt(kind, self.rng(windows[number], f"wording{kind}", epoch)) for number, kind in rows]

    def _logits(self, contexts: Contexts, rows: Sequence[tuple[int, int]], asked: Sequence[Prompt]) -> Logits:
        """Logits of rows (window, type) behind their prompts."""
        different = list(dict.fromkeys(asked))
        pieces = [None if words is None else list(words) for _, words in different]
        prompts = self.network.encode_prompts(self.network.embed_prompts([number for number, _ in different], pieces))
        places = [(number, different.index(each)) for (number, _), each in zip(rows, asked, strict=True)]
        window, prompt = torch.tensor(places, device=self.device).unbind(-1)
        return self.network.score(contexts, self.network.encode_contexts(contexts), prompts, window, prompt)

    def _span_losses(
        self, logits: Logits, contexts: Contexts, windows: Sequence[Window], rows: Sequence[tuple[int, int]], epoch: int
    ) -> dict[str, Tensor]:
        """Loss terms of rows (window, type)."""
        shape = tuple(logits.start.shape)
        starts, ends = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        spans: list[set[tuple[int, int]]] = []
        for row, (number, kind) in enumerate(rows):
            held = spans_within(windows[number], self.examples.spans[windows[number].text])
            of_type = {(first, last) for first, last, its_type in held if its_type == kind}
            starts[row, [first for first, _ in of_type]] = 1
            ends[row, [last for _, last in of_type]] = 1
            spans.append(of_type)
        window = torch.tensor([number for number, _ in rows], device=self.device)
        w_start, w_end, w_match = (weight / sum(self.weights) for weight in self.weights)
        return {
            "start": w_start * _flagged_loss(logits.start, starts, contexts.starts[window]),
            "end": w_end * _flagged_loss(logits.end, ends, contexts.ends[window]),
            "match": w_match * self._match_loss(logits, contexts, windows, rows, (starts, ends), spans, epoch),
        }

    def _match_loss(
        self,
        logits: Logits,
        contexts: Contexts,
        windows: Sequence[Window],
        rows: Sequence[tuple[int, int]],
        gold: tuple[np.ndarray, np.ndarray],
        spans: Sequence[set[tuple[int, int]]],
        epoch: int,
    ) -> Tensor:
        """The sum over rows of the mean over their pairs; a row without pairs adds nothing.

        Args:
            gold: flags [rows, L] of marked starts and ends. spans: the marked (first token, last token) of each row.
        """
        likely = [
            (scores.detach() > 0).cpu().numpy() | (marked > 0)
            for scores, marked in zip((logits.start, logits.end), gold, strict=True)
        ]
        flags = contexts.starts.cpu().numpy(), contexts.ends.cpu().numpy()
        places, targets, weights = [], [], []
        for row, (number, kind) in enumerate(rows):
            starts, ends = (np.flatnonzero(each[row] & flag[number]) for each, flag in zip(likely, flags, strict=True))
            i, j = np.nonzero(possible_pairs(windows[number], starts, ends))
            pairs = set(zip(starts[i].tolist(), ends[j].tolist(), strict=True))
            rng = self.rng(windows[number], f"pairs{kind}", epoch)
            anywhere = [np.flatnonzero(flag[number]) for flag in flags]
            # A window within one long word has no first piece of a word, or no last one.
            if all(map(len, anywhere)):
                drawn = np.stack([rng.choice(tokens, _RANDOM_PAIRS) for tokens in anywhere], 1)
                pairs |= {(int(first), int(last)) for first, last in drawn if first <= last}
            ordered = sorted(pairs)
            places += [(row, first, last) for first, last in ordered]
            targets += [float(pair in spans[row]) for pair in ordered]
            weights += [1.0 / max(1, len(ordered))] * len(ordered)
        if not places:
            return logits.start.sum() * 0
        scores = self.network.match(logits.states, *torch.tensor(places, device=self.device).unbind(-1))
        target, weight = (torch.tensor(values, device=self.device) for values in (targets, weights))
        return functional.binary_cross_entropy_with_logits(scores, target, weight, reduction="sum")

    def _tag_loss(self, logits: Logits, windows: Sequence[Window]) -> Tensor:
        gold = np.full(tuple(logits.tags.shape[:3]), -1, np.int64)
        for row, window in enumerate(windows):
            tags = bio_tags(window, without_overlaps(self.examples.spans[window.text]), len(self.types))
            tags[:, [kind for kind in self.types if kind not in self.examples.annotated[window.text]]] = -1
            gold[row, : len(window)][window.starts] = tags[window.starts]
        target = torch.from_numpy(gold).to(self.device)
        loss = functional.cross_entropy(logits.tags.flatten(0, 2), target.flatten(), ignore_index=-1, reduction="sum")
        return loss / _TOKENS


def sample_types(present: Iterable[int], candidates: Iterable[int], negatives: int, rng: np.random.Generator) -> list[int]:
    """The types that a window is asked for in training: those `present` in it, and `negatives` others for each of them, or for
    one if there are none.

    Args:
        candidates: types that were marked in the window's corpus. Nobody knows whether the text has any of the others.
    """
    present = sorted(set(present))
    absent = np.setdiff1d(sorted(candidates), present)
    count = min(len(absent), negatives * max(1, len(present)))
    return sorted([*present, *rng.choice(absent, count, replace=False).tolist()])


def _flagged_loss(logits: Tensor, target: np.ndarray, flags: Tensor) -> Tensor:
    """Binary cross-entropy over the flagged tokens."""
    loss = functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(target).to(logits.device), reduction="none")
    return (loss * flags).sum() / _TOKENS
