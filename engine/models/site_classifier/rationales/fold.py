"""The model of a fold of the rationale bank: a head on cached token states, trained on the reports of the other folds alone.

What it needs lies in a work folder: the texts as numbers, reports first, then the rationales alone, last an empty text, and their
token states.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.encoders import set_threads
from engine.errors import ContractError
from engine.models.columns import list_values, lists
from engine.models.site_classifier.cached import Absent, HeadLearner
from engine.models.site_classifier.config import ClassifierConfig, LearnConfig
from engine.models.site_classifier.learner import Examples
from engine.models.site_classifier.network import SiteNetwork
from engine.models.site_classifier.rationales.bank import BANK, scored
from engine.models.site_classifier.states import Encoded, StateFolder, keys_of
from engine.storage import whole_file

# What a fold's model says of the fold's rationales, and how often it is right about the fold's reports.
SCORES = pa.schema([*BANK, pa.field("accuracy", pa.float64())])
STATES = "states"
_TEXTS = "texts.parquet"


def write_texts(
    work: Path, record_id: Sequence[str], ids: Sequence[np.ndarray], label: Sequence[int], report: Sequence[int | None], fold: Any
) -> None:
    """Keeps the texts for the models of the folds.

    Args:
        label: the gold class's number. report: of a rationale its report's number. fold: that of each text's report, -1 for the
            empty text.
    """
    numbers = {"label": pa.array(label, pa.int64()), "report": pa.array(report, pa.int64()), "fold": pa.array(fold, pa.int32())}
    with whole_file(work / _TEXTS) as part:
        pq.write_table(pa.table({"record_id": pa.array(record_id, pa.string()), "ids": lists(list(ids)), **numbers}), part)


def learner(fold: int, settings: Mapping[str, Any]) -> HeadLearner:
    """What is trained on the reports of the other folds.

    Args:
        settings: `model`, `learn` and `size`, numbers of a token state; `runtime` has the folder `work`, `threads` and `device`.
    """
    runtime, config = settings["runtime"], ClassifierConfig.from_json(settings["model"])
    set_threads(runtime["threads"])
    work, (task,) = Path(runtime["work"]), config.tasks
    texts = pq.read_table(work / _TEXTS)
    ids, held = list_values(texts["ids"]), texts["fold"].to_numpy() == fold
    report = texts["report"].is_null().to_numpy() & (texts["fold"].to_numpy() >= 0)
    examples = Examples(
        record_id=texts["record_id"].to_pylist(),
        ids=ids,
        labels={task.name: texts["label"].to_numpy()},
        train=report & ~held & np.array([len(each) > 0 for each in ids]),
        valid=report & held,
    )
    states = StateFolder(work / STATES, settings["size"]).states(keys_of(examples), _absent)
    learn = LearnConfig(**settings["learn"])
    torch.manual_seed(learn.seed)
    return HeadLearner(SiteNetwork(config, Absent(settings["size"])), examples, states, learn, torch.device(runtime["device"]))


def answers(learned: HeadLearner, curve: Sequence[Mapping[str, Any]], fold: int, settings: Mapping[str, Any]) -> pa.Table:
    """What the trained model says of the fold's rationales, as `SCORES`."""
    (task,) = learned.network.config.tasks
    texts = pq.read_table(Path(settings["runtime"]["work"]) / _TEXTS).drop_columns("ids").to_pylist()
    mine = [number for number, text in enumerate(texts) if text["report"] is not None and text["fold"] == fold]
    names = [
        {
            "record_id": texts[number]["record_id"],
            "origin": texts[texts[number]["report"]]["record_id"],
            "label": task.labels[texts[number]["label"]],
        }
        for number in mine
    ]
    some = [texts[number]["report"] for number in mine], mine, [len(texts) - 1]
    table = scored(names, task.labels, [(fold, np.arange(len(mine)), *(probabilities(learned, each) for each in some))])
    return table.append_column("accuracy", pa.array([curve[-1][f"valid_accuracy_{task.name}"]] * len(table), pa.float64()))


@torch.inference_mode()
def probabilities(learned: HeadLearner, members: Sequence[int]) -> np.ndarray:
    """[members, classes] of whole texts; a report that several rationales are of stands here as often."""
    (task,) = learned.network.config.tasks
    texts, again = np.unique(members, return_inverse=True)
    found = np.zeros((len(texts), len(task.labels)))
    place = {int(text): index for index, text in enumerate(texts)}
    for batch, rows in learned.batches(list(place)):
        logits = learned.pooled(batch, rows).logits[task.name]
        found[[place[row] for row in rows]] = logits.double().softmax(-1).cpu().numpy()
    return found[again]


def _absent(members: Sequence[int]) -> Iterator[Encoded]:
    raise ContractError("token states of texts are not there")
