"""Training texts: joined, relabelled, with noise, and from reports."""

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from engine.models.prompt_mrc.texts import SILVER, joined, marked_reports, with_noise, with_tumours
from engine.sources.labelled import Document, Span


def document(record_id, text, *spans, dataset="a", split="train"):
    return Document(
        record_id,
        text,
        tuple(Span(text.index(words), text.index(words) + len(words), kind) for words, kind in spans),
        dataset,
        split,
    )


def marked(each):
    return [(each.text[span.start : span.end], span.type) for span in each.spans]


def test_neighbouring_sentences_are_joined_within_a_dataset_and_a_split():
    sentences = [
        document("1", "One cyst .", ("cyst", "Disease")),
        document("2", "Two cysts here .", ("cysts", "Disease")),
        document("3", "Three .", split="valid"),
        document("4", "Four liver .", ("liver", "Anatomy"), dataset="b"),
        document("5", "Five six seven eight nine ten ."),
    ]
    texts = list(joined(sentences, 6))
    assert [each.record_id for each in texts] == ["1+1", "3", "4", "5"]
    assert texts[0].text == "One cyst . Two cysts here ."
    assert marked(texts[0]) == [("cyst", "Disease"), ("cysts", "Disease")]
    assert [each.dataset for each in texts] == ["a", "a", "b", "a"]


def test_tumours_get_one_type_whatever_a_corpus_calls_them():
    before = document("1", "breast cancer and cysts of the breast", ("breast cancer", "Anatomy"), ("cysts", "Disease"))
    assert marked(with_tumours(before, "Cancer")) == [("breast cancer", "Cancer"), ("cysts", "Disease")]
    # A mention that two types had is one afterwards.
    twice = document("1", "breast cancer", ("breast cancer", "Anatomy"), ("breast cancer", "Disease"))
    assert marked(with_tumours(twice, "Cancer")) == [("breast cancer", "Cancer")]


def test_reports_are_cut_at_line_ends_that_no_mention_crosses(tmp_path):
    report = "Left\nkidney with a\ncarcinoma.\nNo cyst.\nDone here now.\n"
    table = pa.table({"text": [report, "Liver.", None, "Lung."], "split": ["train", "test", "train", "dev"]})
    pq.write_table(table, tmp_path / "reports.parquet")
    pieces = list(marked_reports(str(tmp_path / "reports.parquet"), 1, 1.0))
    assert [(each.text, each.split) for each in pieces] == [
        ("Left\nkidney with a\n", "train"),
        ("carcinoma.\n", "train"),
        ("No cyst.\n", "train"),
        ("Done here now.\n", "train"),
        ("Lung.", "valid"),
    ]
    assert marked(pieces[0]) == [("Left", "Laterality"), ("Left\nkidney", "Anatomy")]
    assert {each.dataset for each in pieces} == {SILVER} and len({each.record_id for each in pieces}) == len(pieces)
    (whole, _) = marked_reports(str(tmp_path / "reports.parquet"), 0, 1.0)
    assert whole.text == report
    some = [each.record_id for each in marked_reports(str(tmp_path / "reports.parquet"), 1, 0.3)]
    assert set(some) < {each.record_id for each in pieces}


_WORDS = st.lists(
    st.sampled_from(["adenocarcinoma", "kidney,", "(right)", "of", "mm", "burnt", "ﬁbrosis", "ß", "癌"]), min_size=1
)


@given(_WORDS, st.text(max_size=4), st.data())
def test_noise_keeps_each_mention_on_its_words(words, name, data):
    text = " ".join(words)
    at = data.draw(st.integers(0, len(words) - 1))
    start = len(" ".join([*words[:at], ""]))
    before = Document(name, text, (Span(start, start + len(words[at]), "A"),), "a", "train")
    after = with_noise(before)
    assert with_noise(before) == after
    (span,) = after.spans
    # The same number of words stands in front, whatever happened to their letters.
    assert after.text[: span.start].count(" ") >= at
    assert 0 <= span.start < span.end <= len(after.text)
    assert not after.text[span.start].isspace() and not after.text[span.end - 1].isspace()
    assert span.start == 0 or after.text[span.start - 1] == " "
    assert span.end == len(after.text) or after.text[span.end] == " "


def test_noise_changes_some_texts_and_not_their_length_by_much():
    text = "The specimen shows moderately differentiated adenocarcinoma of the ascending colon " * 5
    noisy = [with_noise(Document(str(n), text, (), "a", "train")).text for n in range(40)]
    assert len(set(noisy)) > 30
    assert all(abs(len(each) - len(text)) < 0.1 * len(text) for each in noisy)
