"""How well the concept embeddings alone tell which public set an image is from, and how many studies of each need a person.

Told apart: the dual encoder saw made radiographs alone, so no set is known to it; five folds by patient, each answered by a
logistic regression on z of the others. Who needs a person: dual encoder and probe learn from NIH images of train, thresholds come
from NIH's valid part, and tested are NIH's test part and the other sets.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from engine.evaluation.resample import divide
from engine.models.findings.decide import FindingCalibration
from engine.models.findings.fitting import Promise, fit_findings
from engine.studies.clear import heads
from engine.studies.clear.folds import made_images, parts, settings
from engine.studies.clear.heads import Part, Space
from engine.studies.clear.radiographs import Images, Radiographs, Texts, dual, folds, frequent, sentences, states
from engine.studies.clear.shift import by_patient, decided, figure_row
from engine.studies.results import Measured, Row
from engine.studies.run import Task

SETS = ("NIH", "ieee8023", "hannover")
_STRENGTH = 100.0


def measure(radiographs: Radiographs, task: Task) -> Measured:
    """Recall of each set, their mean (balanced accuracy, 1/3 by chance), and the share of each set that needs a person."""
    space = _space(radiographs, task, None)
    sets = dict(zip(SETS, (radiographs.nih, radiographs.notes, radiographs.hannover), strict=True))
    z = np.concatenate([space.z(each.features) for each in sets.values()])
    source = np.repeat(np.arange(len(SETS)), [len(each.features) for each in sets.values()])
    patients = np.concatenate([[f"{name} {patient}" for patient in each.patients.tolist()] for name, each in sets.items()])
    answered = told(z, source, folds(patients, task.arm.seed))
    hits = np.stack([(answered == source) & (source == number) for number in range(len(SETS))], 1).astype(float)
    among = np.stack([source == number for number in range(len(SETS))], 1).astype(float)

    def recall(weights: NDArray) -> NDArray:
        return divide(weights @ hits, weights @ among)

    whole, drawn = (
        recall(np.ones((1, len(z)))),
        np.concatenate([recall(each) for each in by_patient(patients, task.study.rounds, z.size)]),
    )
    rows = [
        figure_row("recall", whole[:, at], drawn[:, at], int(among[:, at].sum()), f"set={name}") for at, name in enumerate(SETS)
    ]
    rows.append(figure_row("balanced_accuracy", whole.mean(1), drawn.mean(1), len(z), "all"))
    return Measured([*rows, *_review(radiographs, task)])


def _space(radiographs: Radiographs, task: Task, nih: Images | None) -> Space:
    """A dual encoder of made radiographs, and of NIH images with silver sentences if there are any."""
    made = made_images(radiographs, task)
    texts = [(made.features, made.frame["report"].to_list())]
    if nih is not None:
        silver = [sentences(*each) for each in zip(nih.frame["labels"].to_list(), nih.frame["id"].to_list(), strict=True)]
        texts.append((nih.features, silver))
    return Space.of(dual(Texts.of(*texts), settings(task), task.arm.seed, radiographs), radiographs.bank)


def told(z: NDArray, source: NDArray, number: NDArray) -> NDArray:
    """The set [n] that each image is taken for, by a regression on the images of the other folds, sets weighted alike."""
    answered = np.zeros(len(z), int)
    for fold in np.unique(number):
        test = number == fold
        model = LogisticRegression(C=_STRENGTH, max_iter=5000, class_weight="balanced").fit(z[~test], source[~test])
        answered[test] = model.predict(z[test])
    return answered


def _review(radiographs: Radiographs, task: Task) -> list[Row]:
    """The share of each set that needs a person, for the promises that the product makes by default and for weaker ones."""
    nih = radiographs.nih
    names, _ = frequent(nih.frame["labels"].to_list())
    right, fold = states(nih.frame["labels"].to_list(), names), next(parts(nih.patients, task.arm.seed))
    train, valid = (Part(nih.features[each], right[each]) for each in (fold.train, fold.valid))
    space = _space(radiographs, task, nih.take(fold.train))
    fitted = heads.probe(space, names, train, valid)
    sets = dict(zip(SETS, (nih.take(fold.test), radiographs.notes, radiographs.hannover), strict=True))
    rows = []
    for label, promise in (("default", Promise()), ("weak", Promise(0.8, 0.8))):
        calibration = fit_findings(names, heads.scattered(fitted, names, space.z(valid.features)), valid.right, promise)
        promised = _promised(calibration)
        rows.append(Row("promised", float(len(promised)), n=len(names), slice=f"promise={label}", note=", ".join(promised)))
        for name, images in sets.items():
            review = decided(calibration, heads.scattered(fitted, names, space.z(images.features)))[1].astype(float)
            shares = np.concatenate(
                [w @ review / w.sum(1) for w in by_patient(images.patients.astype(str), task.study.rounds, len(review))]
            )
            rows.append(figure_row(f"review.{label}", review.mean(keepdims=True), shares, len(review), f"set={name}"))
    return rows


def _promised(calibration: dict[str, FindingCalibration]) -> list[str]:
    return [name for name, each in calibration.items() if each.promised]
