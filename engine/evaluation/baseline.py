"""The baseline of the coding model: TF-IDF of words and word pairs with logistic regression, fitted on the same rows."""

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


@dataclass(frozen=True)
class Scored:
    """Predictions on the test rows: `probabilities` [rows, classes], and in `codes` [classes] the class of each column."""

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


def fit_and_score(train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str]) -> Scored:
    """Fits the baseline on labelled texts and scores others.

    Words and word pairs (sublinear TF-IDF; those in at least 3 texts or, if there are none, in any; the 200,000 most frequent),
    then multinomial logistic regression with C=10. Takes some minutes for 5,000 reports of 3,500 characters on one core.
    """
    if len(train_texts) != len(train_labels) or not len(train_texts):
        raise ContractError(f"{len(train_texts)} texts and {len(train_labels)} labels to fit on")
    start = time.perf_counter()
    vectorizer = TfidfVectorizer(**SETTINGS)
    model = LogisticRegression(C=10.0, max_iter=1000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            features = vectorizer.fit_transform(train_texts)
        except ValueError:
            # The texts are so few that no word is in enough of them.
            features = vectorizer.set_params(min_df=1).fit_transform(train_texts)
        model.fit(features, np.asarray(train_labels, dtype=str))
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    probabilities = model.predict_proba(vectorizer.transform(test_texts))
    return Scored(model.classes_, probabilities, time.perf_counter() - start, converged)


def baseline_figures(
    train_texts: Sequence[str],
    train_labels: Sequence[str],
    test_texts: Sequence[str],
    test_labels: Sequence[str],
    target: float = 0.98,
    apart: Sequence[bool] | None = None,
) -> dict[str, object]:
    """The baseline's figures on the test rows, ready for a model card.

    Args:
        apart: a flag per test row; flagged and unflagged rows are also scored separately (`flagged`, `unflagged`).
    Returns:
        The keys of `classes.summary`, `seconds`, `converged`, and with `apart` two more summaries.
    """
    scored = fit_and_score(train_texts, train_labels, test_texts)
    gold = np.asarray(test_labels, dtype=str)
    figures: dict[str, object] = dict(classes.summary(gold, scored.predicted, scored.prob, target))
    figures |= {"seconds": round(scored.seconds, 1), "converged": scored.converged}
    if apart is not None:
        flag = np.asarray(apart, dtype=bool)
        for name, rows in (("flagged", flag), ("unflagged", ~flag)):
            if rows.any():
                figures[name] = classes.summary(gold[rows], scored.predicted[rows], scored.prob[rows], target)
    return figures
