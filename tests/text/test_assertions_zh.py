"""What toy sentences of Chinese records say of the findings in them, worked by hand; and the Chinese lexicon of cues."""

import csv
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.assertions import AFFIRMED, HISTORICAL, KINDS, NEGATED, RELATIVE, UNCERTAIN, Asserted
from engine.text.phrases import Phrases, Reading
from engine.text.sentences import parts, sentences
from engine.text.units import sentences as sentence_offsets
from tests.clock import cpu_seconds

TERMS = ("湿疹", "濕疹", "红斑", "紅斑", "瘙痒", "哮喘", "高血压", "糖尿病", "肿瘤", "水疱", "IgE")
FINDINGS = Phrases((name, None) for name in TERMS)


def said(text):
    """What is said of each finding of a text, in its order."""
    reading = Reading(text)
    asserted = Asserted(reading, "zh")
    return [asserted.of(match.first, match.stop).kind for match in FINDINGS.find(reading)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("四肢红斑。", AFFIRMED),
        ("无红斑。", NEGATED),
        ("未见水疱。", NEGATED),
        ("未见明显红斑。", NEGATED),
        ("否认哮喘病史。", NEGATED),
        ("否认家族中有哮喘。", NEGATED),
        ("没有瘙痒", NEGATED),
        ("没瘙痒", NEGATED),
        ("不伴瘙痒。", NEGATED),
        ("从未出现水疱", NEGATED),
        ("瘙痒不明显。", NEGATED),
        ("红斑已完全消退。", NEGATED),
        ("水疱未见。", NEGATED),
        ("水疱均未见，", NEGATED),
        ("IgE阴性", NEGATED),
        ("IgE（-）", NEGATED),
        ("IgE(-)", NEGATED),
        ("IgE（－）", NEGATED),
        ("肿瘤已排除。", NEGATED),
        ("已排除肿瘤", NEGATED),
        ("不考虑湿疹", NEGATED),
        ("高血压：无", NEGATED),
        ("高血压:否认", NEGATED),
        ("考虑湿疹", UNCERTAIN),
        ("考虑：湿疹", UNCERTAIN),
        ("疑似湿疹。", UNCERTAIN),
        ("湿疹可能", UNCERTAIN),
        ("可能为湿疹", UNCERTAIN),
        ("湿疹可能性大", UNCERTAIN),
        ("湿疹待排", UNCERTAIN),
        ("肿瘤不除外。", UNCERTAIN),
        ("不除外肿瘤。", UNCERTAIN),
        ("不能完全排除肿瘤", UNCERTAIN),
        ("湿疹？", UNCERTAIN),
        ("湿疹?", UNCERTAIN),
        ("是否湿疹", UNCERTAIN),
        ("有无哮喘", UNCERTAIN),
        ("如出现水疱及时就诊", UNCERTAIN),
        ("需与湿疹相鉴别", UNCERTAIN),
        ("既往哮喘。", HISTORICAL),
        ("既往有哮喘。", HISTORICAL),
        ("曾患哮喘", HISTORICAL),
        ("哮喘病史10年", HISTORICAL),
        ("高血压史", HISTORICAL),
        ("5年前因哮喘住院", HISTORICAL),
        ("１０余年前诊断为湿疹", HISTORICAL),
        ("幼时有湿疹", HISTORICAL),
        ("肿瘤术后", HISTORICAL),
        ("哮喘已治愈", HISTORICAL),
        ("父亲患湿疹", RELATIVE),
        ("其母有哮喘", RELATIVE),
        ("有哮喘家族史", RELATIVE),
        ("家族中有湿疹患者", RELATIVE),
        ("奶奶：哮喘", RELATIVE),
    ],
)
def test_cues_forward_and_backward(text, kind):
    assert said(text) == [kind]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("無紅斑。", NEGATED),
        ("未見紅斑", NEGATED),
        ("否認濕疹病史", NEGATED),
        ("疑似濕疹", UNCERTAIN),
        ("考慮濕疹", UNCERTAIN),
        ("母親患濕疹", RELATIVE),
        ("無明顯誘因出現紅斑", AFFIRMED),
    ],
)
def test_traditional_characters(text, kind):
    assert said(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "四肢无力、瘙痒",
        "无名指红斑",
        "未分化肿瘤",
        "睡眠不良伴瘙痒",
        "发育不全、湿疹",
        "无明显诱因出现红斑",
        "瘙痒无明显缓解",
        "红斑未见好转",
        "不仅瘙痒",
        "三阴性肿瘤",
        "无痛性肿瘤",
        "未婚，湿疹3年",
        "类似湿疹",
        "尽可能减少瘙痒",
        "母亲诉红斑3天",
        "家族性哮喘",
        "3年前出现红斑",
        "手术禁忌：肿瘤",
    ],
)
def test_words_that_only_look_like_cues(text):
    assert said(text) == [AFFIRMED]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        # A denial reaches over a list, and to the next clause only if it denies a history.
        ("否认高血压、糖尿病、哮喘病史", [NEGATED, NEGATED, NEGATED]),
        ("否认高血压，糖尿病，哮喘病史", [NEGATED, NEGATED, NEGATED]),
        ("否认高血压、糖尿病，有哮喘", [NEGATED, NEGATED, AFFIRMED]),
        ("否认高血压、糖尿病，但有哮喘", [NEGATED, NEGATED, AFFIRMED]),
        ("否认高血压，伴红斑", [NEGATED, AFFIRMED]),
        ("否认高血压,皮肤可见红斑", [NEGATED, AFFIRMED]),
        ("无水疱，红斑明显", [NEGATED, AFFIRMED]),
        ("无水疱,红斑明显", [NEGATED, AFFIRMED]),
        ("无水疱、红斑，瘙痒", [NEGATED, NEGATED, AFFIRMED]),
        ("未见水疱可见红斑", [NEGATED, AFFIRMED]),
        ("未见水疱但红斑明显", [NEGATED, AFFIRMED]),
        ("无水疱。红斑", [NEGATED, AFFIRMED]),
        ("水疱部位均未见肿瘤", [AFFIRMED, NEGATED]),
        ("不要抓水疱　　2．红斑", [NEGATED, AFFIRMED]),
        ("无水疱；红斑", [NEGATED, AFFIRMED]),
        ("无水疱;红斑", [NEGATED, AFFIRMED]),
        ("无水疱.红斑", [NEGATED, AFFIRMED]),
        ("无水疱\n红斑", [NEGATED, AFFIRMED]),
        ("既往哮喘，高血压，3天前出现红斑", [HISTORICAL, HISTORICAL, AFFIRMED]),
        ("既往哮喘，本次因红斑就诊", [HISTORICAL, AFFIRMED]),
        ("5年前诊断哮喘，近1周红斑", [HISTORICAL, AFFIRMED]),
        ("父亲患湿疹、哮喘，患者红斑", [RELATIVE, RELATIVE, AFFIRMED]),
        ("红斑，IgE阴性", [AFFIRMED, NEGATED]),
        ("红斑，湿疹可能", [AFFIRMED, UNCERTAIN]),
        ("红斑，肿瘤待排", [AFFIRMED, UNCERTAIN]),
        ("湿疹？肿瘤？红斑", [UNCERTAIN, UNCERTAIN, AFFIRMED]),
        ("高血压：无；哮喘：有", [NEGATED, AFFIRMED]),
        # Which of several counts: a denial outweighs a relative, that the past, that a doubt.
        ("否认哮喘家族史", [NEGATED]),
        ("父亲有哮喘病史", [RELATIVE]),
        ("曾考虑湿疹", [HISTORICAL]),
        # The interrogative, and not the illness, is what is asked.
        ("湿疹怎么治疗？", [AFFIRMED]),
        ("这是湿疹吗？", [UNCERTAIN]),
    ],
)
def test_where_a_scope_ends(text, kinds):
    assert said(text) == kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("既往史：哮喘10年。高血压。\n查体：红斑。", [HISTORICAL, HISTORICAL, AFFIRMED]),
        ("既往史:哮喘。\n皮损:红斑", [HISTORICAL, AFFIRMED]),
        ("【既往史】哮喘\n【查体】红斑", [HISTORICAL, AFFIRMED]),
        ("既往史\n哮喘\n诊断\n湿疹", [HISTORICAL, AFFIRMED]),
        ("个人史：哮喘。家族史：湿疹。诊断：湿疹", [HISTORICAL, RELATIVE, AFFIRMED]),
        ("家族史：否认哮喘。", [NEGATED]),
        ("现病史：红斑。", [AFFIRMED]),
        ("主诉：红斑、瘙痒3年", [AFFIRMED, AFFIRMED]),
        ("鉴别诊断：肿瘤", [UNCERTAIN]),
        ("既 往 史：哮喘", [HISTORICAL]),
        ("家族史: \n\n湿疹", [RELATIVE]),
        # As many as two hundred characters, unless something else begins.
        ("既往史：" + "甲。" * 98 + "哮喘", [HISTORICAL]),
        ("既往史：" + "甲。" * 100 + "哮喘", [AFFIRMED]),
    ],
)
def test_headings(text, kinds):
    assert said(text) == kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("否认高血压、\n糖尿病病史", [NEGATED, NEGATED]),
        ("否认高血压，\n糖尿病病史", [NEGATED, NEGATED]),
        # A line of at least 46 columns goes on.
        ("患者一般情况可，饮食及睡眠正常，大小便如常，否\n认哮喘", [NEGATED]),
        ("心肺听诊无异常\n红斑", [AFFIRMED]),
        ("患者一般情况可，饮食及睡眠正常，大小便如常，无\n2、红斑", [AFFIRMED]),
        ("患者一般情况可，饮食及睡眠正常，大小便如常，无\n皮损：红斑", [AFFIRMED]),
    ],
)
def test_sentences_over_lines(text, kinds):
    assert said(text) == kinds


def numbered(text):
    """A text as its sentences, by the words in them."""
    reading = Reading(text)
    words, numbers = reading.words, sentences(reading)
    return ["".join(words[at] for at in range(len(words)) if numbers[at] == number) for number in sorted(set(numbers))]


def split(text):
    """A text as its parts."""
    numbers = parts(Reading(text), range(len(text)))
    return "".join(f"|{text[at]}" if at and numbers[at] != numbers[at - 1] else text[at] for at in range(len(text)))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("红斑3天。瘙痒！好转？是；", ["红斑3天。", "瘙痒！", "好转？", "是；"]),
        ("红斑3天.瘙痒!好转?是;否", ["红斑3天.", "瘙痒!", "好转?", "是;", "否"]),
        ("IgE升高;SCORAD 45;外用0.1%他克莫司", ["ige升高;", "scorad45;", "外用0.1%他克莫司"]),
        ("1．红斑\n2．瘙痒", ["1．红斑", "2．瘙痒"]),
        ("红斑、\n瘙痒", ["红斑、瘙痒"]),
        ("瘙痒史．红斑3．5cm　　2．水疱", ["瘙痒史．", "红斑3．5cm", "2．水疱"]),
    ],
)
def test_sentences_of_both_widths(text, pieces):
    assert numbered(text) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("主诉：红斑。现病史:瘙痒", "主诉：|红斑。|现病史:|瘙痒"),
        ("【查体】红斑、水疱", "【查体】|红斑、水疱"),
        ("查体:T36.5℃;皮肤红斑", "查体:|T36.5℃;|皮肤红斑"),
        ("①红斑\n②瘙痒", "①红斑\n|②瘙痒"),
        ("面积1:2", "面积1:2"),
        ("滴度1：80", "滴度1：80"),
    ],
)
def test_parts(text, pieces):
    assert split(text) == pieces


def test_a_character_is_a_word_and_a_run_of_latin_is_one():
    assert " ".join(Reading("外用0.1%他克莫司，IgE１２３升高").words) == "外 用 0 . 1 % 他 克 莫 司 ， ige１２３ 升 高"
    assert Reading("未见-红斑").words == list("未见红斑")
    reading = Reading("他\u200b克莫司\u00ad软膏𠮷")
    assert [reading.places(at, at + 1) for at in (0, 1, 6)] == [(0, 1), (2, 3), (8, 9)]


def test_the_words_that_say_it():
    text = "既往否认有高血压"
    reading = Reading(text)
    assertion = Asserted(reading, "zh").of(*((match.first, match.stop) for match in FINDINGS.find(reading)).__next__())
    assert text[slice(*reading.places(assertion.first, assertion.stop))] == "否认有" and assertion.kind == NEGATED


PIECES = [
    *("无", "未见", "否认", "考虑", "？", "既往", "病史", "父亲", "家族史：", "既往史:", "但", "，", ",", "、", "。", ";"),
    *("：", "湿疹", "红斑", "年前", "IgE", "(-)", "（-）", "0.1%", "【查体】", "阴性", "\n", "\n\n", "１２", " ", "\u3000"),
    *("\ud800", "\udc00", "\u200b", "ﾊﾝ", "한"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(st.sampled_from("".join(PIECES))) | st.text())
def test_any_text_has_one_assertion_a_word_within_the_text(text):
    reading = Reading(text)
    asserted = Asserted(reading, "zh")
    scopes = asserted.in_characters()
    for scope in scopes:
        assert 0 <= scope.start < scope.end <= len(text) and 0 <= scope.cue_start < scope.cue_end <= len(text)
    for at in range(len(reading)):
        start, end = reading.places(at, at + 1)
        assert 0 <= start < end <= len(text)
        scope, kind = scopes.of(start, end), asserted.of(at, at + 1).kind
        assert kind in KINDS and kind == (AFFIRMED if scope is None else scope.kind)
    numbers = parts(reading, range(len(text))).tolist()
    assert numbers == sorted(numbers)
    starts, ends = sentence_offsets(text)
    assert all(0 <= start < end <= len(text) for start, end in zip(starts, ends, strict=True))


@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_assertions_do_not_depend_on_what_nobody_sees(pieces):
    text = "".join(piece for piece in pieces if piece not in ("\ud800", "\udc00"))
    assert said("\u200b".join(text)) == said(text)


@pytest.mark.parametrize("part", ["无红斑", "无红斑，", "既往史：哮喘", "否认", "红斑？", "、", "\n查体：", "（-）"])
def test_a_long_text_takes_time_in_proportion(part):
    def seconds(count):
        text = part * count
        return cpu_seconds(lambda: said(text))

    assert seconds(8_000) < 12 * seconds(2_000) + 0.5


@pytest.fixture(scope="module")
def rows():
    with resources.files("engine.text").joinpath("assertions.zh.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_of_the_lexicon_has_a_known_kind_scope_and_reach(rows):
    says = ("forward", "backward", "value", "section")
    for row in rows:
        assert row["scope"] in (*says, "none", "end", "part") and (row["kind"] in KINDS[1:]) == (row["scope"] in says), row
        assert row["kind"] in ("", *KINDS[1:]) and (not row["reach"] or row["scope"] in says), row
        words = row["reach"].removesuffix("clause").strip()
        assert not words or 1 <= int(words) <= 200, row


def test_no_cue_stands_in_the_lexicon_twice_and_each_matches_itself(rows):
    cues = [(tuple(Reading(row["phrase"]).words), row["scope"]) for row in rows]
    assert len(cues) == len(set(cues))
    for headings in (False, True):
        phrases = [row["phrase"] for row in rows if (row["scope"] in ("section", "part")) == headings]
        listed = Phrases((phrase, None) for phrase in phrases)
        for phrase in phrases:
            reading = Reading(phrase)
            (match,) = listed.find(reading)
            assert (match.first, match.stop) == (0, len(reading)), phrase
