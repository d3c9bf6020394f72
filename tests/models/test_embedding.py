"""Sentence embeddings: means over tokens, the same in any company."""

import numpy as np
import pytest

from engine import encoders
from engine.errors import ConfigError
from engine.models.embedding import embed

TEXTS = ["small left pleural effusion", "no pneumothorax", "the heart is enlarged " * 5, ""]


def test_they_have_length_one_and_their_neighbours_do_not_matter():
    vectors = embed(TEXTS)
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(embed([text])[0], vector, atol=1e-5)
    np.testing.assert_allclose(embed(TEXTS, batch=1), vectors, atol=1e-5)


def test_they_are_means_of_the_states_of_all_tokens():
    import torch

    tokenizer = encoders.load_tokenizer(encoders.encoder_folder("tiny:bert"))
    model = encoders.load_encoder("tiny:bert", torch.float32, "eager")
    ids = torch.tensor([tokenizer.encode(TEXTS[1]).ids])
    with torch.inference_mode():
        mean = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0][0].mean(0).numpy()
    np.testing.assert_allclose(embed([TEXTS[1]], "tiny:bert")[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_meaning_and_instruction_count():
    effusion, fluid, nodule = embed(["pleural effusion", "fluid in the pleural space", "lung nodule"])
    assert effusion @ fluid > effusion @ nodule
    np.testing.assert_allclose(embed(["edema"], instruction="finding: "), embed(["finding: edema"]), atol=1e-6)


def test_a_long_text_is_cut_and_none_is_none():
    assert embed(["word " * 2000]).shape == (1, 384) and embed([]).shape == (0, 384)
    with pytest.raises(ConfigError, match="is no name"):
        embed(["text"], "pkg:other")
