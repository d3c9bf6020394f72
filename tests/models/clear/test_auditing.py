"""An audit of a model on labelled studies, whole, and what it refuses."""

from types import SimpleNamespace

import pytest

from engine.errors import ConfigError
from engine.models.base import ModelSpec
from engine.models.clear import auditing
from engine.models.findings.studies import StudyData
from engine.pages.audit import page


def _audit(radiographs, **settings):
    data = StudyData(path=str(radiographs.corpus), id="record_id", split=None)
    asked = {"data": data, "part": None, "findings": ("Cardiomegaly",), "remove": (), "rounds": 20}
    spec = ModelSpec(radiographs.system, str(radiographs.model), {"precision": "fp32"})
    return auditing.run(spec, SimpleNamespace(**asked | settings), lambda line: None)


def test_an_audit_is_whole(radiographs):
    audit = _audit(radiographs)
    (label,) = audit["labels"]
    assert label["name"] == "Cardiomegaly" and label["positives"] > 0 and label["negatives"] > 0
    assert len(label["data"]) == 20 and label["data"][0]["score"] >= label["data"][1]["score"]
    assert sum(cluster["images"] for cluster in label["clusters"]) == label["positives"] + label["negatives"]
    for cluster in label["clusters"]:
        assert (cluster["partner"] is None) == (not cluster["thumbnails"])
        if cluster["partner"]:
            assert cluster["partner"]["thumbnails"] and cluster["auroc"] < label["auroc"] <= cluster["partner"]["auroc"]
    assert len(label["removals"]) >= 1
    assert "Cardiomegaly" in page(audit)


def test_concepts_to_remove_are_found_by_their_words(radiographs):
    (label,) = _audit(radiographs, remove=("pneumothorax",))["labels"]
    (removal,) = label["removals"]
    assert removal["concepts"] and all("pneumothorax" in text for text in removal["concepts"])
    with pytest.raises(ConfigError, match="no concept of the model holds any of zebra"):
        _audit(radiographs, remove=("zebra",))


def test_a_finding_without_both_classes_is_refused(radiographs, monkeypatch):
    monkeypatch.setattr(auditing, "_has_both", lambda seen, finding: False)
    with pytest.raises(ConfigError, match="none of them has both"):
        _audit(radiographs)
