"""A tiny system of codes: the mean of a text's token embeddings, and a linear layer to the codes of one task."""

from torch import nn

from engine.models.code_system import CodeSystem, new_config
from engine.models.code_task import Task

TASK, MODEL = "site", {"encoder": "tiny:bert", "window": 62, "width": 8}


class Network(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.words = nn.Embedding(config.words, config.model["width"])
        self.head = nn.Linear(config.model["width"], len(config.labels[TASK]))

    def forward(self, batch):
        words = self.words(batch.ids) * batch.text.unsqueeze(-1)
        total = words.new_zeros(batch.records, words.shape[-1]).index_add_(0, batch.record, words.sum(1))
        count = words.new_zeros(batch.records).index_add_(0, batch.record, batch.text.sum(1).to(words.dtype))
        return {TASK: self.head(total / count.clamp_min(1).unsqueeze(-1))}


class Mean(CodeSystem):
    package, network_at = __name__, f"{__name__}:Network"


TABLE, Options, load = Mean.table, Mean.Options, Mean.load


def config():
    return new_config([Task(TASK, ("C18", "C34"), (100, 100))], MODEL)
