"""A shortcut planted in a corpus: a mark behind the entities of the commonest type.

In train and valid the mark stands behind `share` of these entities; in test behind as many words that are in no entity, so a
model that relies on it errs there.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from engine.models.entities.corpus import Corpus
from engine.records import seed_of
from engine.sources.labelled import Document
from engine.sources.labelled.splits import TEST
from engine.studies.made import fit_on
from engine.studies.run import Task
from engine.studies.whole import Fitted, corpus_of

MARK, SHARE = "※", 0.9


def fit(task: Task) -> Fitted:
    """A model of the corpus with the mark in it."""
    corpus: Corpus = corpus_of(task).corpus  # type: ignore[attr-defined]
    counts = Counter(span.type for each in corpus.documents if each.split != TEST for span in each.spans)
    kind = counts.most_common(1)[0][0]
    rows = [marked(each, kind, task.arm.seed) for each in corpus.documents]
    return fit_on(pa.Table.from_pylist(rows), task, {}, ("explain",))


def marked(document: Document, kind: str, seed: int) -> dict[str, object]:
    """A document with the mark in it, as a row of labelled texts."""
    rng = np.random.default_rng(seed_of(document.record_id, "shortcut", seed))
    ends = [span.end for span in document.spans if span.type == kind]
    if document.split == TEST:
        free = sorted(set(range(1, len(document.text) + 1)) - _covered(document))
        ends = rng.choice(free, min(len(ends), len(free)), replace=False).tolist()
    places = sorted(end for end in ends if rng.random() < SHARE)
    text, done = [], 0
    for place in places:
        text += [document.text[done:place], MARK]
        done = place
    spans = [
        {
            "start": span.start + sum(place <= span.start for place in places),
            "end": span.end + sum(place < span.end for place in places),
            "type": span.type,
        }
        for span in document.spans
    ]
    return {"id": document.record_id, "split": document.split, "text": "".join([*text, document.text[done:]]), "spans": spans}


def _covered(document: Document) -> set[int]:
    """The places within or at the end of an entity, where a mark would be part of one or behind it."""
    inside: Iterable[int] = (place for span in document.spans for place in range(span.start + 1, span.end + 1))
    return set(inside)
