"""From a path to documents, in every format and from every place."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.sources.labelled import Document, Span
from tests.sources.labelled.tables import read, to_table


def tokens(path, tags=("B-A", "O"), **columns):
    rows = {"sentence_id": [f"{path.stem}-0", f"{path.stem}-1"], "tokens": [["a", "b"]] * 2, "ner_tags": [list(tags), ["O", "O"]]}
    pq.write_table(pa.table({**rows, **columns}), path)


def spans(path, spans, text="ab cd", **columns):
    pq.write_table(pa.table({"doc_id": ["x"], "text": [text], "language": ["es"], "spans": [spans], **columns}), path)


def test_a_folder_of_many_formats(tmp_path):
    tokens(tmp_path / "one.parquet", split=["train", "devel"], corpus=["C", "C"])
    spans(tmp_path / "two.parquet", [{"start": 3, "end": 5, "label": "T"}, {"start": 0, "end": 5, "label": "T"}])
    (tmp_path / "iob").mkdir()
    (tmp_path / "iob" / "dev.tsv").write_text("a\tB-A\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "n1.txt").write_text("ab")
    (tmp_path / "test" / "n1.ann").write_text("T1\tA 0 2\tab\n")
    (tmp_path / "test" / "n2.txt").write_text("ab")
    (tmp_path / "notes.md").write_text("not read")
    found = read(tmp_path)
    told = {each.record_id: (each.dataset, each.split, each.lang, each.spans, each.broken) for each in found}
    assert told == {
        "one-0": ("C", "train", None, (Span(0, 1, "A"),), None),
        "one-1": ("C", "valid", None, (), None),
        "x": ("two", None, "es", (Span(0, 5, "T"), Span(3, 5, "T")), None),
        "iob/dev:0": ("iob", "valid", None, (Span(0, 1, "A"),), None),
        "n1": (tmp_path.name, "test", None, (Span(0, 2, "A"),), None),
        "n2": (tmp_path.name, "test", None, (), "brat: there is no .ann file for this text"),
    }


def test_annotations_beside_a_folder_of_texts(tmp_path):
    for folder in ("text", "original"):
        (tmp_path / folder).mkdir()
    (tmp_path / "text" / "p.txt").write_bytes("a\r\nbé".encode())
    (tmp_path / "original" / "p.ann").write_text("T1\tA 3 5\tbé\n")
    for path in (tmp_path, tmp_path / "original"):
        (found,) = read(path)
        assert (found.text, found.spans) == ("a\r\nbé", (Span(3, 5, "A"),))
        assert found.dataset == tmp_path.name
    (tmp_path / "meddra").mkdir()
    (tmp_path / "meddra" / "p.ann").write_text("")
    with pytest.raises(ConfigError, match="in several folders; name the one"):
        read(tmp_path)


def put(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def datasets(path):
    return {each.record_id: each.dataset for each in read(path)}


def test_documents_in_files_of_their_own_are_one_dataset(tmp_path):
    for split, number in (("train", 1), ("train", 2), ("test", 3)):
        put(tmp_path / "brat" / split / "text" / f"b{number}.txt", "ab")
        put(tmp_path / "brat" / split / "original" / f"b{number}.ann", "T1\tA 0 2\tab\n")
        put(tmp_path / "iob" / split / f"i{number}.tsv", "ab\tB-A\n")
        put(tmp_path / "xml" / f"x{number}.xml", "<set><article><title><sentence>ab</sentence></title></article></set>")
    assert datasets(tmp_path / "brat") == dict.fromkeys(("b1", "b2", "b3"), "brat")
    # The one file of test belongs to the corpus whose train lies in several.
    assert datasets(tmp_path / "iob") == dict.fromkeys(("iob/train/i1:0", "iob/train/i2:0", "iob/test/i3:0"), "iob")
    assert datasets(tmp_path / "xml") == dict.fromkeys(("xml/x1:0", "xml/x2:0", "xml/x3:0"), "xml")


def brat(folder, name, text, notes="T1\tA 0 2\tab\n"):
    put(folder / f"{name}.txt", text)
    if notes is not None:
        put(folder / f"{name}.ann", notes)


def test_texts_of_one_name_in_several_folders_are_called_by_their_path(tmp_path):
    for split, text in (("train", "ab"), ("test", "ab cd")):
        brat(tmp_path / "c" / split, "1", text)
        brat(tmp_path / "c" / split, f"only-{split}", "ab")
    brat(tmp_path / "c" / "dev", "1", "ab, which nobody marked", None)
    found = {each.record_id: each for each in read(tmp_path / "c")}
    told = {name: (each.text, each.split, each.dataset) for name, each in found.items() if not each.broken}
    assert told == {
        "train/1": ("ab", "train", "c"),
        "test/1": ("ab cd", "test", "c"),
        "only-train": ("ab", "train", "c"),
        "only-test": ("ab", "test", "c"),
    }
    assert found["dev/1"].broken == "brat: there is no .ann file for this text" and len(found) == 5
    assert datasets(tmp_path / "c" / "t*" / "*.ann") == dict.fromkeys(told, "c")


@pytest.mark.parametrize("folders", [("first", "second"), ("train", "test")])
def test_one_text_that_several_folders_mark_is_refused(tmp_path, folders):
    for folder in folders:
        brat(tmp_path / folder, "1", "ab")
    with pytest.raises(ConfigError, match=r"1\.txt has .ann files in several folders; name the one folder"):
        read(tmp_path)
    (found,) = read(tmp_path / folders[0])
    assert found.record_id == "1" and not found.broken


def test_copies_of_a_text_are_no_documents_of_their_own(tmp_path):
    brat(tmp_path / "original", "p", "ab")
    for folder in ("text", "raw"):
        brat(tmp_path / folder, "p", "ab", None)
    assert datasets(tmp_path) == {"p": tmp_path.name}


def test_corpora_side_by_side_keep_their_names_and_their_ids_apart(tmp_path):
    for corpus in ("one", "two"):
        put(tmp_path / "folders" / corpus / "train.tsv", "ab\tB-A\n")
    assert datasets(tmp_path / "folders") == {"one/train:0": "one", "two/train:0": "two"}
    table = pa.table({"tokens": [["ab"]], "tags": [["B-A"]], "split": ["train"]})
    for corpus in ("one", "two"):
        pq.write_table(table, tmp_path / f"{corpus}.parquet")
    assert datasets(tmp_path / "*.parquet") == {"one:0": "one", "two:0": "two"}


def test_a_table_of_a_split_takes_it_from_its_name_or_folder(tmp_path):
    (tmp_path / "made").mkdir()
    for split in ("train", "dev"):
        pq.write_table(pa.table({"tokens": [["ab"]], "tags": [["B-A"]]}), tmp_path / "made" / f"{split}.parquet")
    found = read(tmp_path)
    assert {each.record_id: (each.dataset, each.split) for each in found} == {
        "made/train:0": ("made", "train"),
        "made/dev:0": ("made", "valid"),
    }


def test_columns_of_large_text_are_text(tmp_path):
    kind = pa.large_list(pa.large_string())
    pq.write_table(pa.table({"tokens": pa.array([["ab"]], kind), "tags": pa.array([["B-A"]], kind)}), tmp_path / "a.parquet")
    (found,) = read(tmp_path)
    assert (found.text, found.spans) == ("ab", (Span(0, 2, "A"),))


def test_documents_written_are_read_again(tmp_path):
    documents = [
        Document("a", "ab  cd\t😀", (Span(0, 2, "A", "g"), Span(7, 8, "B")), "D", "test", "en"),
        Document("b", "", dataset="D", broken="x"),
    ]
    pq.write_table(to_table(documents), tmp_path / "d.parquet")
    assert read(tmp_path / "*.parquet") == documents


def test_spans_that_do_not_fit_flag_their_document(tmp_path):
    pq.write_table(
        pa.table(
            {
                "doc_id": ["a", "b", "c", "d", "e"],
                "text": ["ab", "ab", None, "ab", " "],
                "spans": [[{"start": 0, "end": 3, "type": "A"}], [{"start": 1, "end": 2, "type": "A"}] * 2, [], None, []],
            }
        ),
        tmp_path / "d.parquet",
    )
    found = to_table(read(tmp_path / "d.parquet")).to_pylist()
    assert [row["failure"] and row["failure"]["detail"] for row in found] == [
        "1 of 1 spans are outside the text",
        None,
        "no text",
        "no list of spans",
        "no text",
    ]
    assert found[1]["spans"] == [{"start": 1, "end": 2, "type": "A", "group_id": None}]
    assert all((row["text"] is None) == (row["failure"] is not None) for row in found)


@pytest.mark.parametrize("hidden", [" ", "\t\n", "\u00a0", "\u200b", "\ufeff \x07"])
def test_a_span_with_nothing_to_see_flags_its_document(hidden):
    text = f"no{hidden}lung"
    seen, unseen = Span(0, len(text), "A"), Span(2, 2 + len(hidden), "A")
    assert Document("d", text, (seen,)).checked().broken is None
    assert Document("d", text, (seen, unseen)).checked().broken == "1 of 2 spans hold no visible character"


def article(folder, name, *ids):
    inside = "<article><articleinfo><bibliomisc>{}</bibliomisc></articleinfo><title><sentence>ab</sentence></title></article>"
    put(folder / name, f"<set>{''.join(inside.format(each) for each in ids)}</set>")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: (folder / "a.parquet").write_bytes(b"secret"), "a.parquet cannot be read as Parquet"),
        (
            lambda folder: pq.write_table(pa.table({"a": [1]}), folder / "a.parquet"),
            "neither tokens and ner_tags nor text and spans",
        ),
        (lambda folder: tokens(folder / "a.parquet", split=["x", "y"]), "split that is none of"),
        (lambda folder: tokens(folder / "a.parquet", tokens=[1, 2]), "tokens of a.parquet must be a list of text"),
        (lambda folder: spans(folder / "a.parquet", [{"start": 0}]), "must be a list with start, end and type"),
        (lambda folder: (folder / "a.tsv").write_text("a\tI-A\n\nb\tI-B\n"), "no document of a.tsv can be used; the first: iob2"),
        (lambda folder: (folder / "a.tsv").write_bytes(b"\xff\tO\n"), "a.tsv is not UTF-8"),
        (lambda folder: (folder / "a.ann").write_text(""), "no a.txt beside a.ann"),
        (lambda folder: (folder / "a.txt").write_text("ab"), "has 1 documents, none that can be used"),
        (lambda folder: (folder / "a.md").write_text("a"), "no file that can be read by its ending"),
        (
            lambda folder: [tokens(folder / f"{name}.parquet", sentence_id=["0", "1"]) for name in "ab"],
            "2 ids belong to more than one document, such as '0'",
        ),
        (lambda folder: article(folder, "a.xml", "M:1", "M:2", "M:2"), "1 ids belong to more than one document, such as 'M:2'"),
        (lambda folder: None, "no file that can be read"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path, make, told):
    make(tmp_path)
    with pytest.raises(ConfigError, match=told) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"data.path: there is no file or folder"):
        read(tmp_path / "none")


def test_real_corpora(shared_data):
    found = read(shared_data / "cantemist_es" / "cantemist.parquet")
    assert len(found) == 1051 and not any(each.broken for each in found)
    nested = sum(
        any(other != span and other.start <= span.start and span.end <= other.end for other in each.spans)
        for each in found
        for span in each.spans
    )
    assert nested > 0
