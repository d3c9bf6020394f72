"""A planted confounder: in made radiographs a burnt-in mark goes together with a finding, and the reports mention the mark.

The probe learns from images where nearly all that have the finding have the mark. It is tested on others of that kind
(confounded), and on images of which half have the mark, whatever they show (mixed). Which concepts speak of the mark is known.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.models.clear import audit
from engine.models.clear.concepts import read_bank
from engine.sources.synthetic.radiographs import Radiographs as Made
from engine.studies.clear import heads
from engine.studies.clear.folds import settings
from engine.studies.clear.heads import Areas, Part, Space
from engine.studies.clear.radiographs import Images, Radiographs, Texts, dual, folds, in_space
from engine.studies.results import Measured, Row
from engine.studies.run import Task

CONFOUNDED, MIXED = "confounded", "mixed"
# Shares with the mark, of images with the finding and of those without it, and the seeds of the corpora.
_SHARES = {CONFOUNDED: (0.9, 0.05), MIXED: (0.5, 0.5)}
_PARTS = {"train": (CONFOUNDED, 11), CONFOUNDED: (CONFOUNDED, 12), MIXED: (MIXED, 13)}
_MARK, _FIRST = "letter l", 5


def measure(radiographs: Radiographs, task: Task) -> Measured:
    """The place of the first concept of the mark in each audit, and areas with and without the concepts of the mark."""
    finding = task.settings["planted.finding"]
    images = {name: _made(radiographs, task, finding, *part) for name, part in _PARTS.items()}
    right = {name: _states(each, finding) for name, each in images.items()}
    train, reports = images["train"], images["train"].frame["report"]
    bank = read_bank(radiographs.bank_file(train.frame.select("id", text="report")))
    encoder = dual(Texts.of((train.features, reports.to_list())), settings(task), task.arm.seed, radiographs)
    space, held = Space.of(encoder, bank), folds(train.patients, task.arm.seed) == 0
    fitted = heads.probe(space, [finding], *(Part(train.features[each], right["train"][each]) for each in (~held, held)))
    marks = np.flatnonzero([_MARK in text for text in bank.texts])
    v = {name: in_space(encoder, each.features).astype(np.float64) for name, each in images.items()}
    rows = [Row("concepts", float(len(marks)), n=len(bank.texts), note="; ".join(bank.texts[row] for row in marks))]
    rows += [Row("images", float(right[name].sum()), n=len(each.features), slice=name) for name, each in images.items()]
    rows += _ranks(space, fitted.weights[0], v["train"], right["train"][:, 0], marks)
    t = space.t[marks].astype(np.float64)
    mean = (v["train"] @ t.T).mean(0)
    after = {name: audit.remove(v[name], space.matrix, t, bank.embeddings[marks], mean) for name in _SHARES}
    for name, z in after.items():
        areas = Areas(right[name], images[name].patients, [finding], task.study.rounds)
        with_mark, without = areas.of(fitted.logits(space.z(images[name].features))), areas.of(fitted.logits(z))
        figures = {"auroc": with_mark.label(0), "removed": without.label(0), "change": without.less(with_mark)}
        rows += [Row(metric, *figure, len(right[name]), name) for metric, figure in figures.items()]
    every = np.concatenate([each.features for each in images.values()])
    answers = fitted.logits(space.z(every))[:, 0], np.concatenate([each[:, 0] for each in right.values()])
    rows += _contrasts(space, every, np.concatenate(list(v.values())), *answers, marks)
    return Measured(rows)


def _made(radiographs: Radiographs, task: Task, finding: str, kind: str, seed: int) -> Images:
    shares = dict(zip(("marker_positives", "marker_negatives"), _SHARES[kind], strict=True))
    count = int(task.settings["planted.train" if seed == _PARTS["train"][1] else "planted.test"])
    return radiographs.made(
        Made(seed=seed, pixels=320, prevalence=task.settings["planted.prevalence"], marker=finding, **shares), count
    )


def _states(images: Images, finding: str) -> NDArray:
    return np.array(
        [[float(each["state"] == 1) for each in row if each["name"] == finding] for row in images.frame["findings"].to_list()]
    )


def _ranks(space: Space, weights: NDArray, v: NDArray, right: NDArray, marks: NDArray) -> list[Row]:
    """Places in the audit of the data, and among the concepts whose contributions to the probe set positives apart."""
    of_data = audit.audit_data(v[right == 1], v[right == 0], space.t, len(space.t))
    difference = v[right == 1].mean(0) - v[right == 0].mean(0)
    contributions = (space.t.astype(np.float64) @ difference) * (space.bank.embeddings.astype(np.float64) @ weights)
    orders = {"data": of_data.ids, "contributions": np.argsort(-contributions, kind="stable")}
    return [_rank(f"rank.{name}", ids, space, marks) for name, ids in orders.items()]


def _contrasts(space: Space, features: NDArray, v: NDArray, scores: NDArray, right: NDArray, marks: NDArray) -> list[Row]:
    """The best place in the audit of the model, and in how many of its contrasts the mark is among the first five."""
    clusters, centres = audit.clusters({"": features})
    contrasts = audit.audit_model(audit.Answered(v, clusters[""], scores, right), centres, space.t)
    ranks = [first_of(each.concepts.ids, marks) for each in contrasts]
    known = sorted(rank for rank in ranks if rank is not None)
    note = f"from the lowest cluster on: {', '.join('-' if rank is None else str(rank) for rank in ranks)}"
    best = Row("rank.model", float(known[0]) if known else None, n=len(space.t), note=note)
    return [
        best,
        Row("contrasts", float(sum(rank <= _FIRST for rank in known)), n=len(ranks)),
        Row("contrasts.all", float(len(ranks))),
    ]


def _rank(metric: str, ids: NDArray, space: Space, marks: NDArray) -> Row:
    rank = first_of(ids, marks)
    texts = "; ".join(space.bank.texts[row] for row in ids[:_FIRST])
    return Row(metric, None if rank is None else float(rank), n=len(space.t), note=texts)


def first_of(ids: Sequence[int], marks: Sequence[int]) -> int | None:
    """The place of the first of some concepts in an order, from 1; None where none is in it."""
    places = np.flatnonzero(np.isin(ids, marks))
    return int(places[0]) + 1 if len(places) else None
