"""A dozen and more invented texts with marked sentences, in the form of one of the public sets."""

import pyarrow as pa
import pyarrow.parquet as pq

CELL, VESSEL = "Resisting cell death", "Inducing angiogenesis"
SAID = {CELL: "the cells died of it slowly .", VESSEL: "new vessels grew quickly there ."}
FILLER = ("We looked at twelve patients .", "Nothing else was seen in them .", "More work is needed now .")


def abstracts(count=18):
    """Texts with one label, the other, both or none, and the sentence of each label somewhere among others."""
    for number in range(count):
        mine = [label for place, label in enumerate(SAID) if (number // 3 + 1) % 4 & (place + 1)]
        # No two rationales are the same: what stands in another split too is left out.
        told = [(f"In case {number} {SAID[label]}", [f"{label}--"]) for label in mine]
        shown = [*((FILLER[(number + at) % 3], []) for at in range(2)), *told, (f"This was text {number} .", [])]
        order = sorted(range(len(shown)), key=lambda at: (at * 7 + number) % 5)
        yield {
            "pmid": f"p{number}",
            "split": ("train", "train", "train", "train", "valid", "test")[number % 6],
            "sentences": [shown[at][0] for at in order],
            "sentence_labels": [shown[at][1] for at in order],
        }


def write_abstracts(folder, count=18):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(abstracts(count))), folder / "hoc.parquet")
    return str(folder)
