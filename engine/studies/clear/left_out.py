"""Zero-shot answers about a label that no text and no image of the training had, in the first fold.

Beside them stand the answers of a model whose training had the label (label-supervised), and of probes fitted on the label. What
the text encoder learned elsewhere about the word is in both, and the bank names the label in both.
"""

from engine.studies.clear import heads
from engine.studies.clear.folds import pairs, parts, space_of
from engine.studies.clear.heads import Areas, Part
from engine.studies.clear.radiographs import Radiographs, states
from engine.studies.results import Measured, Row
from engine.studies.run import Task

WITHOUT, WITH = "without", "with"


def measure(radiographs: Radiographs, task: Task) -> Measured:
    """Areas of the label on the test images: zero-shot without and with the label in training, and both probes."""
    name, nih = task.settings["clear.label"], radiographs.nih
    right = states(nih.frame["labels"].to_list(), [name])
    fold = next(parts(nih.patients, task.arm.seed))
    train, valid = (Part(nih.features[each], right[each]) for each in (fold.train, fold.valid))
    test, of_train = nih.features[fold.test], nih.take(fold.train)
    spaces = {kind: space_of(radiographs, of_train, task, label) for kind, label in ((WITHOUT, name), (WITH, None))}
    scores = {kind: heads.zero_shot(space, [name], test) for kind, space in spaces.items()}
    fitted = heads.probe(spaces[WITH], [name], train, valid)
    scores[heads.PROBE] = heads.scattered(fitted, [name], spaces[WITH].z(test))
    scores[heads.DIRECT] = heads.direct([name], train, valid, test)
    areas = Areas(right[fold.test], nih.patients[fold.test], [name], task.study.rounds)
    curves = {kind: areas.of(each) for kind, each in scores.items()}
    count = int(right[fold.test].sum())
    rows = [Row("auroc", *curve.label(0), count, f"answers={kind}") for kind, curve in curves.items()]
    rows.append(Row("auroc", *curves[WITHOUT].less(curves[WITH]), count, f"less {WITH}"))
    kept = {kind: len(pairs(radiographs, of_train, task, label).texts) for kind, label in ((WITHOUT, name), (WITH, None))}
    rows += [Row("pairs", float(each), n=each, slice=f"answers={kind}") for kind, each in kept.items()]
    return Measured([*rows, Row("images", float(len(test)), n=len(test))])
