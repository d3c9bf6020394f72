"""What is gathered of reports, and what makes it count for nothing."""

import numpy as np

from engine.models.site_classifier.rationales.gather import HUMAN, flag_held, flag_lonely, flag_unread, gathered
from engine.models.site_classifier.rationales.samples import same_words
from engine.models.site_classifier.rationales.synthetic import Templates
from tests.models.conftest import coder, write_tiny

TEXT = "Sigmoid colon, carcinoma. Margins free."


def report(*marks, name="r", label="C18"):
    return {"record_id": name, "text": TEXT, "site": label, "marks": list(marks)}


def mark(start, end, label=None, annotator="a"):
    return {"start": start, "end": end, "label": label, "annotator": annotator}


def flaws(found):
    return {each["record_id"]: each["flaw"] for each in found}


def test_what_people_and_a_generator_say_of_a_report():
    some = [report(mark(0, 13), mark(8, 13), mark(20, 900), mark(0, 7, "C34", "b")), report(name="s", label="C34")]
    found = gathered(some, "site", Templates("extractive", terms={"C18": ("colon",), "C34": ("lung",)}))
    assert flaws(found) == {
        "r#human0-outside": "outside_report",
        "r#human0": None,
        "r#human1": "other_label",
        "r#extractive": None,
        "s#extractive": found[-1]["flaw"],
    }
    assert [each["report"] for each in found] == [0, 0, 0, 0, 1] and found[-1]["flaw"] is not None
    assert found[1]["words"] == "Sigmoid colon" and found[1]["spans"] == ((0, 13),) and found[1]["source"] == HUMAN
    assert found[3]["words"] == TEXT[:25] and {each["text"] for each in found} == {None}
    (made,) = gathered([report()], "site", Templates("abstractive", terms={"C18": ("colon",)}, ways=("About {name}.",)))
    assert (made["text"], made["spans"]) == ("About colon.", ())


class Held:
    def holds(self, text, pair):
        return (text, pair) == ("Margins", "why?")


def test_what_stands_in_valid_or_test_is_not_read_or_is_of_a_lonely_class(tmp_path):
    found = gathered([report(mark(0, 7), mark(8, 13, annotator="b"), mark(26, 33, annotator="c"))], "site", None)
    flag_held(found, {same_words("sigmoid")}, Held(), ["why?"])
    assert list(flaws(found).values()) == ["other_split", None, "other_split"]
    found = gathered([report(mark(0, 7), mark(26, 33, annotator="b"))], "site", None)
    flag_unread(found, [TEXT], coder(write_tiny(tmp_path / "base"), method="none").tokenizer, 4)
    assert list(flaws(found).values()) == [None, "beyond_max_tokens"]
    found = gathered([report(mark(0, 7)), report(mark(0, 7), name="s"), report(mark(0, 7), name="t", label="C34")], "site", None)
    flag_lonely(found, ["C18", "C18", "C34"], np.array([0, 1, 1]))
    assert list(flaws(found).values()) == [None, None, "class_in_one_fold"]
