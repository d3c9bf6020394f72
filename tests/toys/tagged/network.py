"""The tagger's network, and what is explained of a span: the logits of B at its start and of I at its end."""

import numpy as np
import torch
from torch import nn

from engine.encoders import load_encoder
from engine.models.entities.explainable import SpanModel
from tests.toys.tagged import ENCODER, tags_of


class Network(nn.Module):
    def __init__(self, config, dtype=torch.float32):
        super().__init__()
        self.config = config
        self.encoder = load_encoder(ENCODER, dtype, "eager")
        self.head = nn.Linear(self.encoder.config.hidden_size, 1 + 2 * len(config.types))

    def embed(self, ids):
        return self.encoder.get_input_embeddings()(ids)

    def forward(self, batch, embeds=None):
        embeds = self.embed(batch.ids) if embeds is None else embeds
        return self.head(self.encoder(inputs_embeds=embeds, attention_mask=batch.mask).last_hidden_state)


class TagModel(SpanModel):
    def span_scores(self, outputs, batch, rows, first, last):
        begin, inside = tags_of(torch.tensor(batch.types)[rows])
        return outputs[rows, first, begin] + outputs[rows, last, inside]

    def probability(self, batch, targets):
        probs, values = self.outputs(batch).softmax(-1).double(), []
        for row, (place, (first, last)) in enumerate(zip(batch.places, targets.tolist(), strict=True)):
            words = np.flatnonzero(place.window.starts[first : last + 1]) + first
            begin = probs[row, first, list(tags_of(place.type))].amax()
            inner = probs[row, words[1:], tags_of(place.type)[1]].sum()
            values.append((begin + inner) / len(words))
        return torch.stack(values)
