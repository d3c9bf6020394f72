"""The algebra of a bank of concepts: exact whichever way it is computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models.clear.bank import add, collapse, embedding, partial, top

PUBLISHED = 368_294


def random_bank(concepts, d=8, e=12, images=5, labels=3, seed=0):
    rng = np.random.default_rng(seed)
    v, t, llm, p = (rng.standard_normal(shape) for shape in ((images, d), (concepts, d), (concepts, e), (e, labels)))
    v, t, llm = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (v, t, llm))
    return v, t.astype(np.float16), llm.astype(np.float16), p / np.linalg.norm(p, axis=0)


def naive(v, t, llm):
    raw = (v @ t.astype(float).T) @ llm.astype(float)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def test_two_concepts_by_hand():
    # s = (0.6, 0.8), s L = (0.6, 0.8) since L = 1; the answer along (1, 0) is 0.6, all from the first concept.
    t, llm, v = np.eye(2), np.eye(2), np.array([[0.6, 0.8]])
    matrix = collapse(t, llm)
    z, norms = embedding(v, matrix)
    np.testing.assert_allclose(z, [[0.6, 0.8]])
    np.testing.assert_allclose(norms, [1.0])
    # Along (1, -1): 0.6 for and 0.8 against; each side has one concept.
    got = top(v, norms, t, llm @ np.array([[1.0], [-1.0]]), k=2)
    assert got.ids.tolist() == [[[0, -1, 1, -1]]] and got.ids.dtype == np.int32
    np.testing.assert_allclose(got.scores, [[[0.6, 0, -0.8, 0]]])
    np.testing.assert_allclose(got.cosines, [[[0.6, 0, 0.8, 0]]])
    np.testing.assert_allclose(got.shares, [[[0.6 / 1.4, 0, 0.8 / 1.4, 0]]])
    np.testing.assert_allclose(got.rest, [[0.0]], atol=1e-15)


def test_the_collapsed_bank_answers_as_the_whole_bank_does():
    v, t, llm, _ = random_bank(500)
    for block in (1, 7, 500, 8192):
        np.testing.assert_allclose(embedding(v, collapse(t, llm, block))[0], naive(v, t, llm), atol=1e-12)


def test_the_sum_over_four_shards_is_the_sum_over_one():
    _, t, llm, _ = random_bank(1001)
    whole = partial(t, llm)
    shards = [partial(t[some], llm[some]) for some in np.array_split(np.arange(1001), 4)]
    four = add(add(shards[0], shards[1]), add(shards[2], shards[3]))
    assert np.abs(four - whole).max() <= 1e-12 * np.abs(whole).max()
    assert np.abs(collapse(t, llm, 100) - whole).max() <= 1e-12 * np.abs(whole).max()


@given(st.integers(1, 60), st.integers(1, 25), st.integers(1, 64), st.integers(0, 100))
def test_listed_concepts_and_the_rest_make_the_answer(concepts, k, block, seed):
    v, t, llm, p = random_bank(concepts, seed=seed)
    z, norms = embedding(v, collapse(t, llm))
    weights = llm.astype(float) @ p
    got = top(v, norms, t, weights, k, block)
    np.testing.assert_allclose(got.scores.sum(2) + got.rest, z @ p, atol=1e-6)
    # Against all concepts, sorted.
    every = (v @ t.astype(float).T)[:, None, :] * weights.T[None] / norms[:, None, None]
    for image in range(len(v)):
        for label in range(p.shape[1]):
            scores, ids = every[image, label], got.ids[image, label]
            supporting = [c for c in np.argsort(-scores).tolist() if scores[c] > 0][:k]
            opposing = [c for c in np.argsort(scores).tolist() if scores[c] < 0][:k]
            assert ids[:k].tolist() == supporting + [-1] * (k - len(supporting))
            assert ids[k:].tolist() == opposing + [-1] * (k - len(opposing))
            listed = ids[ids >= 0]
            np.testing.assert_allclose(got.cosines[image, label][ids >= 0], (v @ t.astype(float).T)[image, listed], atol=1e-12)
            shares = got.shares[image, label]
            np.testing.assert_allclose(shares[ids >= 0], np.abs(scores[listed]) / np.abs(scores).sum())
            assert shares[ids < 0].sum() == 0


def test_an_image_like_no_concept_has_an_embedding_of_zeros():
    z, norms = embedding(np.zeros((1, 2)), np.eye(2))
    got = top(np.zeros((1, 2)), norms, np.eye(2), np.ones((2, 1)), k=1)
    assert z.tolist() == [[0, 0]] and got.ids.tolist() == [[[-1, -1]]] and got.rest.tolist() == [[0]]


@pytest.mark.long
def test_the_published_number_of_concepts():
    """In half precision, as a bank is stored: 0.5 GB."""
    rng = np.random.default_rng(0)
    t, llm = (np.empty((PUBLISHED, width), np.float16) for width in (256, 384))
    for start in range(0, PUBLISHED, 8192):
        for values in (t, llm):
            rows = rng.standard_normal(values[start : start + 8192].shape, np.float32)
            values[start : start + 8192] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    v = rng.standard_normal((4, 256))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    p = rng.standard_normal((384, 3))
    matrix = collapse(t, llm)
    z, norms = embedding(v, matrix)
    raw, weights = np.zeros((4, 384)), np.empty((PUBLISHED, 3))
    for start in range(0, PUBLISHED, 8192):
        rows = llm[start : start + 8192].astype(float)
        raw += (v @ t[start : start + 8192].astype(float).T) @ rows
        weights[start : start + 8192] = rows @ p
    np.testing.assert_allclose(z, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-12)
    shards = [collapse(t[some], llm[some]) for some in (slice(start, start + 92_074) for start in range(0, PUBLISHED, 92_074))]
    np.testing.assert_allclose(shards[0] + shards[1] + shards[2] + shards[3], matrix, rtol=0, atol=1e-12 * np.abs(matrix).max())
    got = top(v, norms, t, weights)
    np.testing.assert_allclose(got.scores.sum(2) + got.rest, z @ p, atol=1e-12)
    assert (got.ids >= 0).all()
