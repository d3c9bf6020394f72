"""Marked entities of the test texts as targets of explanation, so that all models are asked about the same ones: of each text
`MOST`, evenly spaced. `explain.sample` texts are drawn by their ids."""

import pyarrow as pa

from engine.models.base import System
from engine.models.entities.corpus import members_of
from engine.records import seed_of
from engine.sources.labelled import Document
from engine.sources.labelled.splits import TEST
from engine.studies.explaining import Options, Target, Text, Texts, spread
from engine.studies.run import Task
from engine.studies.whole import corpus_of

MOST = 2


class MarkedTexts(Texts):
    """See `Texts`; `marks` are the entities by their types."""

    def targets(self, system: System, prepared: pa.Table) -> list[Target]:
        targets = []
        for number, text in enumerate(self.texts):
            spans = sorted((*span, kind) for kind, marked in text.marks.items() for span in marked)
            targets += [Target(number, spans[at][2], spans[at][:2]) for at in spread(min(MOST, len(spans)), len(spans)).tolist()]
        return targets


def texts(task: Task, settings: Options) -> Texts:
    """Texts of the arm's test split in which an entity is marked."""
    corpus = corpus_of(task).corpus  # type: ignore[attr-defined]
    documents = [corpus.documents[member] for member in members_of(corpus, TEST)]
    documents = sorted((each for each in documents if each.spans), key=lambda each: seed_of(each.record_id, "sample"))
    drawn = documents[: settings.sample or len(documents)]
    return MarkedTexts([Text(each.record_id, each.record_id, each.text, marks=_marks(each)) for each in drawn])


def _marks(document: Document) -> dict[str, list[tuple[int, int]]]:
    marks: dict[str, list[tuple[int, int]]] = {}
    for span in document.spans:
        marks.setdefault(span.type, []).append((span.start, span.end))
    return marks
