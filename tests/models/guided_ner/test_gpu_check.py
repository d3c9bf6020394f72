"""The tagger's part of the GPU check, on the processor."""

import pytest

from engine.models.guided_ner import constraints, gpu_check
from engine.models.guided_ner.config import HEADS
from tests.models.conftest import records
from tests.models.guided_ner.conftest import tagger


@pytest.mark.parametrize("head", HEADS)
def test_entities_have_evidence_and_saliency_a_gradient(folders, head):
    system = tagger(folders[head])
    prepared = system.prepare(records(["患者左侧上肢伴红斑，予软膏。", "面部丘疹三年余"]))
    assert gpu_check.extra(system, prepared) == {"evidence of every entity": True, "double backward": True}
    assert set(gpu_check.unsure(system, prepared, 0.02)) <= {0, 1}
    # With nothing found there is no evidence to speak of.
    strict = tagger(folders[head], thresholds={"score": 0.999999})
    assert gpu_check.extra(strict, prepared)["evidence of every entity"] is False


def test_a_saliency_without_a_gradient_is_told(folders, monkeypatch):
    system = tagger(folders["crf"])
    prepared = system.prepare(records(["面部丘疹三年余"]))
    saliency = constraints.gradient_saliency
    monkeypatch.setattr(constraints, "gradient_saliency", lambda *given: 0 * saliency(*given))
    assert gpu_check.extra(system, prepared)["double backward"] is False
