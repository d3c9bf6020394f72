"""The page: everything a row says is on it, escaped, and nothing is fetched."""

import html.parser

import pytest

from engine.errors import ConfigError
from engine.pages.evidence import write_evidence_page
from engine.pages.examples import Example
from engine.records import text_digest

TEXT = "Left breast, core biopsy:\n<script>alert(1)</script> invasive ductal carcinoma é😀"


def _evidence(word, score=1.0, weight=0.6):
    start = TEXT.index(word)
    return {"start": start, "end": start + len(word), "score": score, "weight": weight}


def _row(**changed):
    row = {
        "record_id": "r<1>",
        "decision": "review",
        "reasons": ["low_margin"],
        "site_code": "C50",
        "site_prob": 0.914,
        "site_decision": "review",
        "site_reasons": ["low_margin"],
        "site_top": [{"code": "C50", "prob": 0.914}, {"code": "C34", "prob": 0.05}],
        "site_evidence": [_evidence("breast"), _evidence("carcinoma é", -0.5, 0.2)],
        "site_comprehensiveness": 0.42,
        "site_random_comprehensiveness": 0.03,
        "histology_code": "8500/3",
        "histology_prob": 0.6,
        "histology_decision": "review",
        "histology_reasons": ["no_threshold"],
        "histology_top": [],
        "histology_evidence": [_evidence("ductal carcinoma")],
        "histology_comprehensiveness": None,
        "text_sha256": text_digest(TEXT),
        "n_tokens": 1234,
        "truncated_chars": 0,
        "failure": None,
        "source": "a & b.csv",
        "position": 3,
    }
    return row | changed


class _Reader(html.parser.HTMLParser):
    """Tags, attributes that fetch, and the text of every mark."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.marks, self.open = [], [], [], None

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "data", "action", "srcset")]
        if tag == "mark":
            self.open = ""

    def handle_data(self, data):
        if self.open is not None:
            self.open += data

    def handle_endtag(self, tag):
        if tag == "mark":
            self.marks.append(self.open)
            self.open = None


def _write(tmp_path, examples, **more):
    path = tmp_path / "page.html"
    summary = {"reports": 2000, "auto": 1500, "review": 480, "failed": 20}
    write_evidence_page(str(path), "Coded <reports>", examples, summary, ["site", "histology"], **more)
    content = path.read_text("utf-8")
    reader = _Reader()
    reader.feed(content)
    return content, reader


def test_the_page_tells_what_the_row_says(tmp_path):
    content, reader = _write(tmp_path, [Example(_row(), TEXT)], note="model x")
    for told in ("r&lt;1&gt;", "C50", "breast", "91.4%", "C34", "Another code is nearly as likely.", "-0.42", "-0.03", "8500/3"):
        assert told in content
    assert "This page holds the text of 1 reports" in content
    assert "a &amp; b.csv, record 3" in content and "1,234 tokens" in content
    assert "2,000" in content and "width:75.00%" in content
    assert {"breast", "ductal ", "carcinoma", " é"} <= set(reader.marks)


def test_a_coded_card_shows_which_task_must_still_be_looked_at_and_why(tmp_path):
    row = _row(decision="auto", reasons=[], site_decision="auto", site_reasons=[])
    content, _ = _write(tmp_path, [Example(row, TEXT)])
    head = content.split("<header>")[1].split("</header>")[0]
    assert '<span class="badge auto">coded</span><span class="badge review">histology: to review</span>' in head
    assert "coded, histology: to review" in content.split("<nav>")[1].split("</nav>")[0]
    site, histology = content.split("<tr><td>")[1:3]
    assert "badge auto" in site and "badge review" in histology
    assert "No probability was shown to be high enough" in histology and "<code>no_threshold</code>" in histology
    both, _ = _write(tmp_path, [Example(row | {"histology_decision": "auto", "histology_reasons": []}, TEXT)])
    assert "to review</span>" not in both.split("<article")[1] and "to review" not in both.split("<nav>")[1].split("</nav>")[0]
    # A row that goes to review as a whole needs no further badge.
    whole, _ = _write(tmp_path, [Example(_row(), TEXT)])
    assert "histology: to review" not in whole


def test_a_table_of_before_tasks_told_their_reasons_is_shown_all_the_same(tmp_path):
    old = {name: value for name, value in _row(decision="auto", reasons=[]).items() if not name.endswith("_reasons")}
    assert "histology: to review" in _write(tmp_path, [Example(old, TEXT)])[0]


def test_nothing_runs_and_nothing_is_fetched(tmp_path):
    content, reader = _write(tmp_path, [Example(_row(), TEXT)])
    assert "script" not in reader.tags and "&lt;script&gt;alert(1)&lt;/script&gt;" in content
    assert {"link", "img", "iframe", "object"}.isdisjoint(reader.tags)
    assert all(link.startswith("#") for link in reader.links)
    assert "url(" not in content and "@import" not in content
    targets = [link[1:] for link in reader.links]
    assert all(f'id="{target}"' in content for target in targets) and len(targets) == 4


def test_failed_rows_show_their_kind_and_no_text(tmp_path):
    failed = _row(decision="failed", failure={"kind": "too_large", "detail": "5000000 bytes"}, text_sha256=None)
    content, _ = _write(tmp_path, [Example(failed, None)])
    assert "The text is larger than the limit." in content and "too_large: 5000000 bytes" in content
    assert "invasive" not in content and "holds the text of 0 reports" in content


def test_rows_without_evidence_or_code(tmp_path):
    bare = _row(site_evidence=None, histology_evidence=[], histology_code=None, histology_prob=None, reasons=None)
    content, _ = _write(tmp_path, [Example(bare, TEXT)])
    assert "site: no evidence" in content and ">none<" in content


def test_another_text_is_refused_and_no_page_is_left(tmp_path):
    with pytest.raises(ConfigError, match="not the one that was coded"):
        _write(tmp_path, [Example(_row(), TEXT + " ")])
    assert list(tmp_path.iterdir()) == []


def test_entities_stand_below_the_text_by_type(tmp_path):
    found = [
        {"start": start, "end": start + len(word), "type": kind, "score": 0.9}
        for word, kind in (("breast", "Anatomy"), ("invasive ductal carcinoma", "Cancer"), ("carcinoma é", "Disease"))
        for start in [TEXT.index(word)]
    ]
    content, reader = _write(tmp_path, [Example(_row(), TEXT, found)])
    assert "3 entities in the text" in content
    assert {"breast", "invasive ductal carcinoma", "carcinoma é"} <= set(reader.marks)
    without, _ = _write(tmp_path, [Example(_row(), TEXT)])
    assert "entities" not in without
    assert "entities: none" in _write(tmp_path, [Example(_row(), TEXT, [])])[0]
