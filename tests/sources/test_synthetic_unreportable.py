import csv
import hashlib
import json
import random
import re
import textwrap
from collections import Counter
from importlib import resources

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.sources.synthetic import CorpusConfig, Settings, Unreportable, unreportable, write
from engine.sources.synthetic.grammar import compile_symbols, compile_text
from engine.sources.synthetic.unreportable import SCHEMA, generate, kinds
from engine.sources.synthetic.unreportable.grammar import CASES, KINDS_FILE, Writer, cases, read, symbols
from engine.sources.synthetic.unreportable.layouts import LAYOUTS, lay_out, scanned
from engine.sources.synthetic.unreportable.scans import MAKERS

# Kinds whose cancer words are those of a pathologist or a clinician about a patient.
ABOUT_PATIENTS = ("benign_biopsy", "benign_resection", "malignancy_excluded", "negative_cytology", "radiology")
CANCER = re.compile(
    r"\b(carcinoma|cancer|malignan\w+|melanoma|(?:lympho|sarco|myelo|mesothelio|semino)ma|leukemia|metasta\w+|dcis|hcc)\b", re.I
)
# Denied, asked, feared, compared, of somebody else, or no finding at all.
NOT_AFFIRMED = re.compile(
    r"\b(no|not|non|none|without|w/o|nor|neither|nothing|negative|neg|free|absent|lacking|fails|against|benign|unlikely|n/a"
    r"|exclud\w+|exclusion|rule|ruled|r/o|query|question\w*|concern\w*|suspicion|evaluate|mimic|vs|beware|support|anxious|worried"
    r"|history|h/o|surveillance|follow-up|family|mother|father|sister|brother|aunt|uncle|carrier|lynch|risk|screening|tests?"
    r"|cent(?:er|re)|institute|registry|database|network|protocol|summary)\b|\?|: (?:n\b|0)|\(-\)|\[ \]|\b0/",
    re.I,
)
AFFIRMED = re.compile(
    r"positive for (malig|carcinoma|tumor|cancer)|diagnostic of (malig|\w*carcinoma)|suspicious for (carcinoma|malig)"
    r"|(consistent|compatible) with (\w+ )?(carcinoma|malig|lymphoma|melanoma)|\binvades\b|malignant cells (are )?(seen|present)"
    r"|(carcinoma|melanoma|lymphoma|malignancy) (is )?(present|seen|identified)\b|\bpT[1-4].*\bpN[0-3]\b"
    r"|metastatic (adeno)?carcinoma (in|involving)|nachweis eines karzinoms|(carcinome infiltrant|carcinoma infiltrante) d",
    re.I,
)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return generate(2000, 7).to_pylist()


def test_the_same_seed_gives_the_same_table():
    table = generate(200, 5)
    assert table.schema == SCHEMA
    assert table.equals(generate(200, 5))
    assert not table["text"].equals(generate(200, 6)["text"])
    assert generate(0, 5).equals(SCHEMA.empty_table())


def test_any_stretch_can_be_made_alone():
    whole = generate(150, 5).combine_chunks()
    parts = [generate(50, 5, start=start) for start in (100, 0, 50)]
    assert pa.concat_tables([parts[1], parts[2], parts[0]]).combine_chunks().equals(whole)


def test_a_record_is_the_same_wherever_it_is_made():
    """Fixed records: fails when words, layouts or the use of chance change. Then raise EDITION in generate.py as well."""
    made = generate(20, 7, start=4240).to_pylist()
    assert made[0]["record_id"] == "unr-7-00004240"
    digest = hashlib.sha256("\0".join(row["text"] for row in made).encode()).hexdigest()
    assert digest[:16] == "fa236c2f240186de"


def test_kinds_take_turns(rows):
    counts = Counter(row["kind"] for row in rows)
    assert len(counts) == 20
    assert set(counts.values()) == {100}
    assert [row["kind"] for row in rows[:20]] == [kind.name for kind in kinds()]


def test_a_kind_has_many_styles_and_every_document_and_layout_exists(rows):
    styles = {kind.name: {row["style"] for row in rows if row["kind"] == kind.name} for kind in kinds()}
    assert min(map(len, styles.values())) >= 4
    assert len(styles["foreign_language"]) == 12
    for kind in kinds():
        assert set(kind.layouts) <= set(LAYOUTS)
        assert all(document in MAKERS or document in symbols() for document in kind.documents)
        assert not kind.cases or cases()[kind.cases]


def test_texts_differ(rows):
    texts = [row["text"] for row in rows]
    assert len(set(texts)) >= 0.98 * len(texts)
    worded = [row["text"] for row in rows if row["kind"] not in ("scan_noise", "encoded_document") and row["style"] != "ocr"]
    assert len({re.sub(r"\d+", "#", sentence).lower() for text in worded for sentence in text.split(". ")}) > 1500
    assert max(Counter(texts).values()) <= 5


def test_nothing_is_coded_and_equal_texts_stand_in_one_split(rows):
    assert {row["site"] for row in rows} == {row["histology"] for row in rows} == {None}
    assert all(row["text"].strip() for row in rows)
    assert len({row["record_id"] for row in rows}) == 2000
    splits: dict[str, set] = {}
    for row in generate(6000, 8).to_pylist():
        splits.setdefault(row["text"], set()).add(row["split"])
    assert all(len(each) == 1 for each in splits.values())
    assert {split for each in splits.values() for split in each} == {"train", "valid", "test"}


def test_encoded_documents_are_60_to_6000_bytes():
    documents = [row["text"] for row in generate(6000, 3).to_pylist() if row["kind"] == "encoded_document"]
    assert min(map(len, documents)) < 150 and 6000 < max(map(len, documents)) < 10_000


def test_no_sentence_about_a_patient_affirms_a_cancer():
    about = 0
    for row in generate(12_000, 9).to_pylist():
        if row["kind"] not in ABOUT_PATIENTS or row["style"] not in ("plain", "narrative", "capitals", "synoptic", "telegraphic"):
            continue
        for sentence in re.split(r"(?<=[a-zA-Z)%]{2}\.) |\n|; ", row["text"]):
            if CANCER.search(sentence):
                about += 1
                assert NOT_AFFIRMED.search(sentence), sentence
    assert about > 1000


def test_no_text_holds_an_affirming_phrase():
    for row in generate(8000, 10).to_pylist():
        if row["kind"] not in ("scan_noise", "encoded_document") and row["style"] != "ocr":
            found = AFFIRMED.search(row["text"])
            before = row["text"][max(0, found.start() - 60) : found.start()] if found else ""
            assert not found or NOT_AFFIRMED.search(before), (row["kind"], before, found[0])


def test_every_past_cancer_is_gone():
    gone = re.compile(
        r"\b(no|not|negative|neg|free|remission|absent|none|nothing|neither|regression|exclu\w+|fails|lacking)\b|\(-\)", re.I
    )
    for row in generate(4000, 11).to_pylist():
        if row["kind"] == "past_cancer" and row["style"] != "ocr":
            assert gone.search(row["text"]), row["text"]


def test_every_alternative_can_be_written():
    own = {name: options for group in cases().values() for name, options in group[0].items()}
    for name, options in symbols().items():
        for option in options:
            assert isinstance(Writer(random.Random(1), own).write(option), str), name
    for group in cases().values():
        for case in group:
            for options in case.values():
                for option in options:
                    assert Writer(random.Random(1), case).write(option)


def test_no_symbol_is_defined_twice():
    folder = resources.files(unreportable)
    files = [file.name for file in folder.iterdir() if file.name.endswith(".json") and file.name not in (CASES, KINDS_FILE)]
    names = [name for file in files for name in read(file)]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def written(text: str, seed: int = 1, **own: list[str]) -> str:
    return Writer(random.Random(seed), compile_symbols(own)).write(compile_text(text))


def test_the_grammar():
    assert {written("{a|b {c|d}|}", seed) for seed in range(40)} == {"a", "b c", "b d", ""}
    assert written("{=word} {=word} {=Word}", word=["a{#6}"]).split()[0] == written("{=word}", word=["a{#6}"])
    assert len(set(written("{=word} {=word}", word=["a{#6}"]).split())) == 1
    assert written("{Word}", word=["benign"]) == "Benign"
    assert sorted(written("{word*3-3}", word=["a", "b", "c"]).split("\n")) == ["a", "b", "c"]
    assert sorted(written("{word+5-9}", word=["a", "b"]).split(" ")) == ["a", "b"]
    assert sorted(written("{word、2-2}", word=["a", "b"]).split("、")) == ["a", "b"]
    assert written("{lb}x{rb}") == "{x}"
    with pytest.raises(ValueError, match="never closed"):
        compile_text("{a|{b}")
    with pytest.raises(KeyError):
        written("{no_such_symbol}")


@given(low=st.integers(0, 300), more=st.integers(0, 300), seed=st.integers(0, 50))
def test_numbers_stay_within_their_bounds(low, more, seed):
    assert low <= int(written(f"{{{low}-{low + more}}}", seed)) <= low + more
    assert low / 10 <= float(written(f"{{{low / 10}-{(low + more) / 10}}}", seed)) <= (low + more) / 10
    assert re.fullmatch(r"0[1-9]|1[0-2]", written("{01-12}", seed))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_keeps_the_diagnosis(layout):
    document = "#clinical r/o ca\n#gross Two fragments.\n#dx Hyperplastic polyp. No carcinoma."
    for seed in range(60):
        text = lay_out(layout, document, Writer(random.Random(seed))).lower()
        kept = textwrap.dedent(text) if layout != "ocr" else "hyperplastic"
        assert "hyperplastic" in re.sub(r"\s+", " ", kept)


@given(st.text(max_size=200), st.integers(0, 20))
def test_scanning_never_fails_and_no_damage_leaves_the_words(text, seed):
    writer = Writer(random.Random(seed))
    assert text in scanned(text, writer, 0.0)
    scanned(text, writer, 1.0)


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl", "text"])
def test_every_file_format_holds_the_texts(tmp_path, format):
    done = write(CorpusConfig(str(tmp_path), 120, Unreportable(7), format, file_records=80))
    assert (done.files, done.written) == (2, 120)
    wanted = generate(120, 7).to_pylist()
    if format == "parquet":
        made = [row for n in range(2) for row in pq.read_table(tmp_path / f"corpus-0000{n}.parquet").to_pylist()]
        assert made == wanted
    elif format == "jsonl":
        lines = [line for n in range(2) for line in (tmp_path / f"corpus-0000{n}.jsonl").read_bytes().splitlines()]
        assert list(map(json.loads, lines)) == wanted
        assert list(json.loads(lines[0])) == SCHEMA.names
    elif format == "csv":
        made = []
        for n in range(2):
            with (tmp_path / f"corpus-0000{n}.csv").open(encoding="utf-8", newline="") as file:
                made += [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
        assert made == wanted
    else:
        gold = [row for n in range(2) for row in pq.read_table(tmp_path / "gold" / f"gold-0000{n}.parquet").to_pylist()]
        assert [(tmp_path / "texts" / row["record_id"]).read_bytes().decode() for row in gold] == [row["text"] for row in wanted]
        assert [row["kind"] for row in gold] == [row["kind"] for row in wanted]


def test_the_two_corpora_do_not_mix_in_a_folder(tmp_path):
    write(CorpusConfig(str(tmp_path / "a"), 20, Unreportable(7)))
    assert write(CorpusConfig(str(tmp_path / "a"), 20, Unreportable(7))).written == 0
    with pytest.raises(ConfigError, match=r"corpus is unreportable, not reports;"):
        write(CorpusConfig(str(tmp_path / "a"), 20, Settings(7)))
    write(CorpusConfig(str(tmp_path / "b"), 20, Settings(7)))
    with pytest.raises(ConfigError, match=r"corpus is reports, not unreportable;"):
        write(CorpusConfig(str(tmp_path / "b"), 20, Unreportable(7)))


def test_a_wrong_seed_is_refused():
    with pytest.raises(ConfigError, match="seed"):
        Unreportable(-1)
