"""Five patient-wise folds on the NIH images: each image is answered by a model that saw no image of its patient.

A fold's dual encoder is trained on made radiographs with their reports, on real notes, and on silver sentences of the NIH images
that are neither of its test nor of its valid patients.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.sources.synthetic.radiographs import Radiographs as Made
from engine.studies.clear import heads
from engine.studies.clear.heads import Areas, Part, Space
from engine.studies.clear.radiographs import Images, Radiographs, Texts, dual, folds, frequent, sentences, states, words
from engine.studies.results import Measured, Row
from engine.studies.run import Task

# The same finding in the made radiographs, whose reports also name it.
_MADE = {"Effusion": "Pleural Effusion", "Infiltration": "Lung Opacity"}


@dataclass(frozen=True)
class Fold:
    """Flags [n] of the images of each part."""

    train: NDArray
    valid: NDArray
    test: NDArray


def parts(patients: NDArray, seed: int) -> Iterator[Fold]:
    number = folds(patients, seed)
    last = number.max() + 1
    for test in range(last):
        valid = (test + 1) % last
        yield Fold((number != test) & (number != valid), number == valid, number == test)


def measure(radiographs: Radiographs, task: Task) -> Measured:
    """Areas of the arm's head over the labels with at least 20 positives, and their difference to the direct probe."""
    head, nih = task.settings["clear.head"], radiographs.nih
    labels = nih.frame["labels"].to_list()
    names, rare = frequent(labels)
    right = states(labels, names)
    scores = {kind: np.zeros(right.shape) for kind in {head, heads.DIRECT}}
    for fold in parts(nih.patients, task.arm.seed):
        train, valid = (Part(nih.features[each], right[each]) for each in (fold.train, fold.valid))
        test = nih.features[fold.test]
        scores[heads.DIRECT][fold.test] = heads.direct(names, train, valid, test)
        if head != heads.DIRECT:
            space = space_of(radiographs, nih.take(fold.train), task)
            scores[head][fold.test] = answers(head, space, names, train, valid, test)
        task.say(f"{int(fold.test.sum()):,} images answered")
    areas = Areas(right, nih.patients, names, task.study.rounds, folds(nih.patients, task.arm.seed))
    rows = areas.rows(scores[head], {heads.DIRECT: scores[heads.DIRECT]} if head != heads.DIRECT else None)
    return Measured([*rows, Row("left_out", float(len(rare)), n=len(rare), note=", ".join(rare))])


def answers(head: str, space: Space, names: list[str], train: Part, valid: Part, test: NDArray) -> NDArray:
    """Scores [n, K] of a head on test features."""
    if head == heads.ZERO_SHOT:
        return heads.zero_shot(space, names, test)
    fitted = heads.probe(space, names, train, valid)
    if head == heads.PROBE:
        return heads.scattered(fitted, names, space.z(test))
    return heads.bottlenecks(space, names, train, valid, test, fitted)[1][head]


def space_of(radiographs: Radiographs, nih: Images | None, task: Task, without: str | None = None) -> Space:
    """A dual encoder trained on `pairs`, with the bank in it."""
    texts = pairs(radiographs, nih, task, without)
    return Space.of(dual(texts, settings(task), task.arm.seed, radiographs), radiographs.bank)


def pairs(radiographs: Radiographs, nih: Images | None, task: Task, without: str | None = None) -> Texts:
    """The pairs of a training.

    Args:
        nih: images with labels whose sentences are silver. without: a label that no image has and no text mentions.
    """
    made, notes = made_images(radiographs, task), radiographs.notes
    of_made = made.frame["report"].to_list()
    chosen = [(made, of_made), (notes, notes.frame["report"].to_list())]
    if nih is not None:
        silver = [sentences(*each) for each in zip(nih.frame["labels"].to_list(), nih.frame["id"].to_list(), strict=True)]
        chosen.append((nih, silver))
    if without is None:
        return Texts.of(*((images.features, texts) for images, texts in chosen))
    word = words(without).split()[-1][:7]
    kept = []
    for images, texts in chosen:
        has = np.array([word in text.lower() for text in texts])
        if images is made:
            positive = [{each["name"] for each in row if each["state"] == 1} for row in made.frame["findings"].to_list()]
            has |= np.array([_MADE.get(without, without) in each for each in positive])
        if images is notes and without == "Pneumonia":
            # Nearly all of them are of pneumonias, whether or not the note says so.
            has[:] = True
        if images is nih:
            has |= np.array([without in each for each in nih.frame["labels"].to_list()])
        kept.append((images.features[~has], [text for text, out in zip(texts, has, strict=True) if not out]))
    return Texts.of(*kept)


def made_images(radiographs: Radiographs, task: Task) -> Images:
    return radiographs.made(Made(seed=1, pixels=320), int(task.settings["clear.made"]))


def settings(task: Task) -> dict[str, float]:
    """How dual encoders are trained."""
    return {name: task.settings[f"dual.{name}"] for name in ("width", "epochs", "batch", "rate", "decay")}
