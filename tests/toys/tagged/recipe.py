"""How it is trained: cross-entropy of the tags of a window's words, from the tokenizer's first piece of each."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional

from engine.encoders import encoder_folder, load_tokenizer
from engine.keys import section
from engine.models.base import ModelSpec
from engine.models.entities.card import chapters
from engine.models.entities.corpus import load_corpus
from engine.models.entities.examples import Examples
from engine.models.entities.learner import EntityLearner
from engine.models.entities.recipe import EntityRecipe, EntityTexts
from engine.models.entities.settings import EntityData, EntityLearning
from engine.models.entities.spans import OUTSIDE, bio_tags, collate, without_overlaps
from tests.toys.tagged import ENCODER, Decoding, Tagged, candidates_in, new_config, write
from tests.toys.tagged.network import Network


@dataclass(frozen=True)
class Settings:
    data: EntityData = section(EntityData)
    learn: EntityLearning = section(EntityLearning)


class Learner(EntityLearner):
    def losses(self, examples, epoch):
        windows = [window for member in examples for window in self.windows(member)]
        for places in self.batches(windows, [1] * len(windows), 2):
            shown = [windows[place] for place in places]
            batch, gold = self._batch(shown), np.full((len(shown), max(map(len, shown)) + 1), -1)
            batch.ids[:, 1:] = self.masked(batch.ids[:, 1:], shown, epoch)
            for row, window in enumerate(shown):
                spans = without_overlaps(self.examples.spans[window.text], across_types=True)
                tags = bio_tags(window, spans, len(self.types))
                joint = np.where(tags != OUTSIDE, tags + 2 * np.arange(len(self.types)), 0).max(-1)
                gold[row, : len(window)][window.starts] = joint[window.starts]
            logits = self.network(batch)[:, 1:].flatten(0, 1)
            loss = functional.cross_entropy(logits, torch.from_numpy(gold).flatten(), ignore_index=-1, reduction="sum")
            yield {"tags": loss / 64}, int(batch.mask.sum())

    def found(self, windows):
        for places in self.batches(windows, [1] * len(windows), 2):
            shown = [windows[place] for place in places]
            yield from candidates_in(shown, self.network(self._batch(shown))[:, 1:], self.types, self.decoding)

    def _batch(self, windows):
        return collate(windows, self.network.config.special).to(self.device)


def learner(settings, worker):
    stored = worker.examples(settings["examples"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings["seed"])
        network = Network(new_config(stored.facts["types"]))
    learn = EntityLearning(**{**settings["learn"], "seed": settings["seed"]})
    decoding = Decoding(longest=stored.facts["longest"])
    return Learner(network, Examples.from_table(stored.whole()), learn, worker.device, decoding)


class Texts(EntityTexts):
    @cached_property
    def tokenizer(self):
        return load_tokenizer(encoder_folder(ENCODER))

    @cached_property
    def decodings(self):
        return [Decoding(longest=self.encoded[0].longest(len(self.corpus.types)))]

    @cached_property
    def network(self):
        return Network(new_config(self.corpus.types))


class Recipe(EntityRecipe):
    def corpus(self, settings):
        return Texts(settings, load_corpus(EntityData(**settings["data"])))

    def write(self, folder, corpus, tensors):
        write(folder, new_config(corpus.corpus.types), tensors, longest=corpus.decoding.longest)
        return ModelSpec(Tagged.__module__, str(folder), {"precision": "fp32", "evidence": "none"})

    def card(self, spec, figures, command):
        return "\n".join(["# A tagger", "", *chapters(figures, Decoding(**figures["decoding"]), command)])


RECIPE = Recipe(Settings, f"{__name__}:learner")
