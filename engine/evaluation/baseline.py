"""The plain rival of the coding model: TF-IDF word pairs with logistic regression, fitted on the same rows."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from engine.errors import ContractError
from engine.evaluation import classes

SETTINGS = {"ngram_range": (1, 2), "sublinear_tf": True, "min_df": 3, "max_features": 200_000}
STRENGTH = 10.0
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class Scored:
    """Predictions on the test rows: `codes` [rows] the classes of the columns, `probabilities` [rows, classes]."""

    codes: NDArray
    probabilities: NDArray
    seconds: float
    converged: bool

    @property
    def predicted(self) -> NDArray:
        return self.codes[self.probabilities.argmax(axis=1)]

    @property
    def prob(self) -> NDArray:
        return self.probabilities.max(axis=1)


def fit_and_score(
    train_texts: Sequence[str],
    train_labels: Sequence[str],
    test_texts: Sequence[str],
    min_df: int = SETTINGS["min_df"],
) -> Scored:
    """Fits the baseline on labelled texts and scores others.

    Words and pairs of words (sublinear TF-IDF, in at least `min_df` texts or, where no word is, in any; the 200,000 most
    frequent), then multinomial logistic regression with C=10. Some minutes for 5,000 reports of 3,500 characters on one core.
    """
    if len(train_texts) != len(train_labels) or not len(train_texts):
        raise ContractError(f"{len(train_texts)} texts and {len(train_labels)} labels to fit on")
    start = time.perf_counter()
    vectorizer = TfidfVectorizer(**SETTINGS | {"min_df": min_df})
    model = LogisticRegression(C=STRENGTH, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            found = vectorizer.fit_transform(train_texts)
        except ValueError:
            # No word stands in so many of a few texts.
            found = vectorizer.set_params(min_df=1).fit_transform(train_texts)
        model.fit(found, np.asarray(train_labels, dtype=str))
    stopped_early = any(issubclass(w.category, ConvergenceWarning) for w in caught)
    probabilities = model.predict_proba(vectorizer.transform(test_texts))
    return Scored(model.classes_, probabilities, time.perf_counter() - start, not stopped_early)


def baseline_figures(
    train_texts: Sequence[str],
    train_labels: Sequence[str],
    test_texts: Sequence[str],
    test_labels: Sequence[str],
    target: float = 0.98,
    apart: Sequence[bool] | None = None,
    min_df: int = SETTINGS["min_df"],
) -> dict[str, object]:
    """Fits the baseline and gives its figures on the test rows, ready for a model card.

    Args:
        apart: a flag a test row; rows with it are also scored by themselves (`flagged`), and the others too (`unflagged`).
    Returns:
        the keys of `classes.summary`, `seconds`, `converged`, and with `apart` two such summaries more.
    """
    scored = fit_and_score(train_texts, train_labels, test_texts, min_df)
    gold = np.asarray(test_labels, dtype=str)
    figures: dict[str, object] = dict(classes.summary(gold, scored.predicted, scored.prob, target))
    figures |= {"seconds": round(scored.seconds, 1), "converged": scored.converged}
    if apart is not None:
        flag = np.asarray(apart, dtype=bool)
        for name, rows in (("flagged", flag), ("unflagged", ~flag)):
            if rows.any():
                figures[name] = classes.summary(gold[rows], scored.predicted[rows], scored.prob[rows], target)
    return figures
