"""The rival has our weights: its encoder gives our encoder's states."""

import pytest
import torch

from engine.benchmarks import rival
from engine.encoders import encoder_folder, load_encoder
from engine.errors import ContractError

FOLDER = str(encoder_folder("tiny:bert"))


def test_the_pipeline_has_the_given_weights():
    encoder = load_encoder("tiny:bert", torch.float32, "eager")
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.01)
    pipe = rival.pipeline_of(encoder, 3, FOLDER, torch.float32, "cpu")
    ids = torch.tensor([[101, 7592, 2088, 102]])
    with torch.no_grad():
        theirs = pipe.model.base_model(ids).last_hidden_state
        ours = encoder(ids).last_hidden_state
    assert torch.allclose(theirs, ours, atol=1e-5)
    answers = rival.classify(pipe, ["lung", "a much longer text about the breast", ""], 2)
    assert len(answers) == 3 and all(answer["label"].startswith("LABEL_") for answer in answers)


def test_bf16_is_what_runs():
    pipe = rival.pipeline_of(load_encoder("tiny:bert", torch.float32, "sdpa"), 2, FOLDER, torch.bfloat16, "cpu")
    assert pipe.model.dtype == torch.bfloat16
    assert len(rival.classify(pipe, ["lung"], 1)) == 1


def test_other_weights_are_refused():
    with pytest.raises(ContractError, match="does not take"):
        encoder = load_encoder("tiny:bert", torch.float32, "sdpa")
        encoder.extra = torch.nn.Linear(2, 2)
        rival.pipeline_of(encoder, 2, FOLDER, torch.float32, "cpu")


def test_texts_are_cut_at_a_token():
    # Six tokens are [CLS], four of the text and [SEP].
    assert rival.cut_texts(["one two three four five", "one"], FOLDER, max_tokens=6) == ["one two three four", "one"]
