"""The page: everything a row says is on it, escaped, and nothing is fetched."""

import base64
import hashlib
import html.parser
import re

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
        self.sifted = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sifted += [(tag, value) for name, value in attrs if name == "data-decision"]
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
    contents = content.split("<nav>")[1].split("</nav>")[0]
    # Its number is the card's, also where the choice of cards leaves others out.
    assert "coded, histology: to review" in contents and '<li value="1" data-decision="auto"' in contents
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


def test_nothing_runs_but_its_own_script_and_nothing_is_fetched(tmp_path):
    content, reader = _write(tmp_path, [Example(_row(), TEXT)])
    assert reader.tags.count("script") == 1 and "&lt;script&gt;alert(1)&lt;/script&gt;" in content
    (script,) = re.findall(r"<script>(.*?)</script>", content, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', content)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
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


def _heads(content):
    return re.findall(r"<th(?: class=\"\w+\")?>(.*?)</th>", content)


def test_a_column_that_no_row_of_the_page_has_is_left_out(tmp_path):
    bare = {"site_comprehensiveness": None, "site_top": [{"code": "C50", "prob": 0.914}]}
    every = ["task", "code", "probability", "decision", "next in line", "without the evidence"]
    content, _ = _write(tmp_path, [Example(_row(**bare), TEXT)])
    assert _heads(content) == every[:4] and "not measured" not in content
    # One row that has it is enough, and the others say that they have not.
    content, _ = _write(tmp_path, [Example(_row(**bare), TEXT), Example(_row(), TEXT)])
    assert _heads(content) == every * 2 and "not measured" in content


def test_what_a_task_says_is_not_said_again_of_the_whole_report(tmp_path):
    row = _row(reasons=["low_margin", "section_missing"])
    content, _ = _write(tmp_path, [Example(row, TEXT)])
    above, table = content.split("<article")[1].split("<table")[:2]
    assert "section_missing</code>" in above and "low_margin</code>" not in above
    assert table.count("low_margin</code>") == 1 and "section_missing" not in table


def test_words_that_are_alike_are_told_once_with_their_count(tmp_path):
    text = "Carcinoma here, carcinoma there,\ncarcinoma  in situ; no Carcinoma in situ"
    places = [(0, 9, 1.0, 0.4), (16, 25, 1.0, 0.2), (33, 51, 1.0, 0.1), (56, 73, 1.0, 0.15), (56, 65, -1.0, 0.05)]
    spans = [dict(zip(("start", "end", "score", "weight"), each, strict=True)) for each in places]
    row = _row(site_evidence=spans, histology_evidence=[], text_sha256=text_digest(text))
    content, _ = _write(tmp_path, [Example(row, text)])
    chips = content.split('<p class="chips">')[1].split("</p>")[0]
    # The strongest names them and is where the link leads; what speaks against the code is not what speaks for it.
    assert re.findall(r'<a href="#(\S+)"><mark class="(\w+) lane0">(.*?)</mark>', chips) == [
        ("r1-0-0", "for10", "Carcinoma × 2"),
        ("r1-0-3", "for4", "Carcinoma in situ × 2"),
        ("r1-0-4", "against1", "Carcinoma"),
    ]
    assert content.split('class="text"')[1].count("<mark") == 5


def test_the_strongest_mark_of_the_first_task_is_the_one_to_bring_into_view(tmp_path):
    spans = [_evidence("breast", 1.0, 0.2), _evidence("carcinoma é", -0.5, 0.6)]
    content, _ = _write(tmp_path, [Example(_row(site_evidence=spans), TEXT)])
    assert 'data-strongest="r1-0-1"' in content and 'id="r1-0-1"' in content
    content, _ = _write(tmp_path, [Example(_row(site_evidence=[]), TEXT)])
    assert 'data-strongest="r1-1-0"' in content
    content, _ = _write(tmp_path, [Example(_row(site_evidence=None, histology_evidence=None), TEXT)])
    assert "data-strongest=" not in content


def test_cards_and_their_entries_can_be_sifted_by_decision_and_reason(tmp_path):
    examples = [Example(_row(), TEXT), Example(_row(decision="auto", reasons=[]), TEXT)]
    content, reader = _write(tmp_path, examples)
    assert reader.sifted == [(tag, decision) for tag in ("li", "article") for decision in ("review", "auto")]
    options = re.findall(r'<option value="(\w*)">(.*?)</option>', content)
    assert options == [
        ("", "all 2 reports"),
        ("review", "to review (1)"),
        ("auto", "coded (1)"),
        ("", "any reason"),
        ("low_margin", "low margin (1)"),
    ]
    alike = [Example(_row(reasons=["low_margin", "section_missing"]), TEXT)] * 2
    assert "<form" not in _write(tmp_path, alike)[0] and "<form" not in _write(tmp_path, [])[0]


def test_a_name_in_the_row_is_taken_before_our_own(tmp_path):
    assert "breast" in _write(tmp_path, [Example(_row(), TEXT)])[0].split('data-label="code"')[1].split("</td>")[0]
    content, _ = _write(tmp_path, [Example(_row(site_name="Brust <links>"), TEXT)])
    assert "C50</span> Brust &lt;links&gt;</td>" in content


def test_no_probability_reads_as_certain_or_impossible(tmp_path):
    top = [{"code": "C34", "prob": 0.0004}, {"code": "C44", "prob": 0.0}]
    content, _ = _write(tmp_path, [Example(_row(site_prob=0.99996, histology_prob=0.999, site_top=top), TEXT)])
    told = re.findall(r"(?:</meter> |soft\">)((?:&[lg]t;&nbsp;)?[\d.]+%)", content)
    assert told == ["&gt;&nbsp;99.9%", "&lt;&nbsp;0.1%", "0.0%", "99.9%"]
