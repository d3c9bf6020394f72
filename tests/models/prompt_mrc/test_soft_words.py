"""Words near to soft vectors."""

from itertools import pairwise

import pytest
import torch

from engine.encoders import encoder_folder, load_tokenizer
from engine.models.prompt_mrc.build import new_network
from engine.models.prompt_mrc.soft_words import nearest, soft_words
from tests.models.prompt_mrc.conftest import tiny_config


def test_nearest_rows_by_hand():
    table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0], [-1.0, 0.0]])
    first, second = nearest(torch.tensor([[2.0, 0.0], [0.0, 0.5]]), table, 3)
    assert [row for row, _ in first] == [0, 2, 1] and [row for row, _ in second] == [1, 2, 0]
    assert [cosine for _, cosine in first] == pytest.approx([1.0, 0.6, 0.0])
    assert [cosine for _, cosine in second] == pytest.approx([1.0, 0.8, 0.0])


@pytest.mark.parametrize("deep", [False, True])
def test_every_vector_has_its_words_and_no_mark_is_one(deep):
    network = new_network(tiny_config(shared_soft=2, type_soft=1, deep=deep), torch.float32, "eager")
    tokenizer = load_tokenizer(encoder_folder("tiny:bert"))
    embeddings = network.encoder.get_input_embeddings().weight.data
    near, mark = (tokenizer.token_to_id(word) for word in ("pear", "[unused7]"))
    # Nearer than any word, and none.
    embeddings[mark] = 3 * embeddings[near]
    network.soft.own.data[1, 0, :32] = 2 * embeddings[near]
    rows = soft_words(network, tokenizer, 3).to_pylist()
    assert [(row["type"], row["vector"], row["rank"]) for row in rows] == [
        (kind, vector, rank) for kind, vector in ((None, 0), (None, 1), ("A", 0), ("B", 0)) for rank in (1, 2, 3)
    ]
    assert rows[9]["word"] == "pear" and rows[9]["cosine"] == pytest.approx(1.0, abs=1e-5)
    assert not any(row["word"].startswith("[unused") for row in rows)
    assert all(one["cosine"] >= two["cosine"] for one, two in pairwise(rows) if two["rank"] > 1)
