"""Rows by every method of evidence, by the plain loop of the tree that PYTHONPATH names: `reports folder tokens`.

A process of its own, one for each tree: it is no module of either.
"""

import sys
from pathlib import Path

import pyarrow.parquet as pq

from engine.models.run import rows

HEADS = {"pooling": None, "dpla": "dpla"}
METHODS = ("attention", "pooling", "gradient_x_input", "grad_l2", "attention_constant", "attnlrp")


def write(reports: str, folder: str, tokens: int) -> None:
    """A table for each head of the shipped model and each method, every row checked by erasure."""
    read = pq.read_table(reports, columns=["record_id", "text"])
    texts = dict(zip(read["record_id"].to_pylist(), read["text"].to_pylist(), strict=True))
    Path(folder).mkdir()
    for head, name in HEADS.items():
        for method in METHODS:
            options = {"head": name, "method": method, "checks": 1.0, "max_tokens": tokens, "tasks": ["site", "histology"]}
            options |= {"precision": "fp32", "deterministic": True}
            pq.write_table(rows(texts, options=options, runtime={"threads": 1}), Path(folder, f"{head}_{method}.parquet"))


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
