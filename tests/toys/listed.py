"""A system of entities without a model: every word of a list is one, `options.words` has the lists by type.

A word in capitals is surer than another; the one before it decides, and the next type in order is the nearest.
"""

import hashlib
import json
import re

import pyarrow as pa

from engine.models.base import ModelSpec
from engine.records import FAILURE, entities_fields, text_digest


class Listed:
    reads = "text"
    table = "entities"

    def __init__(self, spec: ModelSpec) -> None:
        self.words = {kind: set(words) for kind, words in spec.options["words"].items()}
        self.names = list(self.words)
        self.digest = hashlib.sha256(json.dumps(spec.options, sort_keys=True, default=list).encode()).hexdigest()

    def fields(self) -> list[pa.Field]:
        return entities_fields()

    def limits(self) -> dict[str, str]:
        return {}

    def known(self) -> dict[str, list[str]]:
        return {"entities": self.names}

    def auto(self) -> dict[str, list[str]]:
        return {}

    def prepare(self, records: pa.Table) -> pa.Table:
        failures = pa.nulls(len(records), FAILURE)
        return pa.table({**{name: records[name] for name in ("row", "record_id", "text")}, "failure": failures})

    def run(self, prepared: pa.Table) -> pa.Table:
        rows = []
        for row, text in zip(prepared["row"].to_pylist(), prepared["text"].to_pylist(), strict=True):
            words = list(re.finditer(r"\w+", text))
            entities = [
                self._entity(kind, word, words[at - 1] if at else None)
                for at, word in enumerate(words)
                for kind in self.names
                if word[0].lower() in self.words[kind]
            ]
            truncated = "cut" in text
            rows.append(
                {
                    "row": row,
                    "decision": "review" if truncated else "auto",
                    "reasons": ["text_truncated"] if truncated else [],
                    "entities": entities,
                    "invalid_start_gt_end": 0,
                    "text_sha256": text_digest(text),
                    "n_tokens": len(words),
                    "n_windows": 1,
                    "truncated_chars": int(truncated),
                }
            )
        return pa.Table.from_pylist(
            rows, schema=pa.schema([pa.field("row", pa.int32()), pa.field("failure", FAILURE), *self.fields()])
        )

    def _entity(self, kind: str, word: re.Match, before: re.Match | None) -> dict:
        others = [name for name in self.names if name != kind]
        evidence = [] if before is None else [{"start": before.start(), "end": before.end(), "score": 1.0, "weight": 0.5}]
        sure = word[0].isupper()
        more = {"margin": 2.0 if sure else 0.5, "confused_with": others[0]} if others else {}
        place = {"type": kind, "start": word.start(), "end": word.end(), "score": 0.9 if sure else 0.6, "zero_shot": False}
        return {**place, **more, "context_share": 0.5, "hard_share": 0.25, "soft_share": 0.125, "evidence": evidence}


def load(spec: ModelSpec) -> Listed:
    return Listed(spec)
