"""All rationales of some reports, of people and of a generator, each with what makes it count for nothing, if anything does."""

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from engine.models.site_classifier.rationales.samples import rationales, same_words, unfit
from engine.models.site_classifier.rationales.synthetic import Generator, proposed
from engine.text.tokens import tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HUMAN = "human"


class Repeats(Protocol):
    """The texts of valid and test."""

    def holds(self, text: str, pair: str | None) -> bool:
        """Whether a text of train stands there too."""


def gathered(reports: Sequence[Mapping[str, Any]], task: str, by: Generator | None) -> list[dict[str, Any]]:
    """Each rationale with the number of its report, its text and, where it counts for nothing, its `flaw`."""
    found = []
    for number, report in enumerate(reports):
        own = {"report": number, "origin": report["record_id"], "label": report[task]}
        for index, one in enumerate(rationales(report["marks"], len(report["text"]))):
            flaw = unfit(one, report["text"])
            if flaw is None and one.label not in (None, report[task]):
                flaw = "other_label"
            about = {"source": HUMAN, "generator_digest": None, "annotator": one.annotator}
            name = f"{report['record_id']}#{HUMAN}{index}"
            if one.outside:
                lost = {"spans": one.outside, "words": "", "text": None, "flaw": "outside_report"}
                found.append({**own, "record_id": f"{name}-outside" if one.spans else name, **about, **lost})
            if one.spans:
                words = "" if flaw else one.text(report["text"])
                told = {"spans": one.spans, "words": words, "text": None, "flaw": flaw}
                found.append({**own, "record_id": name, **about, **told})
        if by is not None:
            made = proposed(by, report["record_id"], report["text"], report[task])
            found.append(
                {
                    **own,
                    "record_id": f"{report['record_id']}#{by.mode}",
                    "source": by.name,
                    "generator_digest": by.digest,
                    "annotator": None,
                    "spans": made.spans,
                    "words": made.text,
                    # The words of a report stand in its own table alone; what was written anew stands nowhere else.
                    "text": made.text if by.mode == "abstractive" else None,
                    "flaw": made.flaw,
                }
            )
    return found


def flag_held(found: Sequence[dict[str, Any]], held: Set[bytes], repeats: Repeats, pairs: Sequence[str | None]) -> None:
    """What is marked in valid or test, or is a whole report there, must not be learned."""
    for each in found:
        words = each["words"]
        if each["flaw"] is None and (same_words(words) in held or repeats.holds(words, pairs[each["report"]])):
            each["flaw"] = "other_split"


def flag_unread(found: Sequence[dict[str, Any]], texts: Sequence[str], tokenizer: "Tokenizer", most: int) -> None:
    """Whoever has not read a rationale in its report cannot say what the report would be without it."""
    read: dict[int, int] = {}
    for each in found:
        if each["flaw"] is None and each["spans"]:
            number = each["report"]
            if number not in read:
                (tokens,) = tokenize(tokenizer, [texts[number]], most)
                read[number] = len(texts[number]) - tokens.truncated_chars
            if each["spans"][-1][1] > read[number]:
                each["flaw"] = "beyond_max_tokens"


def flag_lonely(found: Sequence[dict[str, Any]], labels: Sequence[str], fold: np.ndarray) -> None:
    """A class whose reports are all in one fold is unknown to the model that would score them."""
    places = {label: {int(fold[i]) for i, one in enumerate(labels) if one == label} for label in set(labels)}
    for each in found:
        if each["flaw"] is None and len(places[each["label"]]) < 2:
            each["flaw"] = "class_in_one_fold"
