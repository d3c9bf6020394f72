"""GENIA XML: nested mentions at their exact place."""

import pytest

from engine.errors import ConfigError
from engine.sources.labelled import Span
from engine.sources.labelled.genia import Omitted, coarse, read

XML = """<?xml version="1.0"?><set><article>
<articleinfo><bibliomisc>MEDLINE:1</bibliomisc></articleinfo>
<title>
<sentence>The <cons sem="G#DNA_domain_or_region"><cons sem="G#protein_molecule">IL-2</cons> gene</cons> &amp; more.</sentence>
</title>
<abstract><sentence><cons sem="(AND G#cell_type G#cell_type)"><cons lex="x">CD4</cons> and <cons lex="y">CD8</cons> cells</cons>
in <cons sem="G#tissue">lymph</cons>, <cons sem="G#cell_line">Jurkat</cons>.</sentence></abstract></article>
<article><title><sentence>Plain.</sentence></title></article></set>"""


def test_articles_with_nested_mentions():
    omitted = Omitted()
    first, second = read(XML.encode(), "g.xml", omitted, split="train")
    assert first.record_id == "MEDLINE:1" and first.text == "The IL-2 gene & more.\nCD4 and CD8 cells\nin lymph, Jurkat.\n"
    assert sorted(first.spans, key=lambda span: (span.start, span.end)) == [
        Span(4, 8, "protein"),
        Span(4, 13, "DNA"),
        Span(50, 56, "cell_line"),
    ]
    assert first.text[50:56] == "Jurkat"
    assert omitted.coordinated == [("MEDLINE:1", frozenset({"cell_type"}))] and omitted.other == 1
    assert omitted.count({"MEDLINE:1"}, ["DNA", "cell_type"]) == 1
    assert omitted.count({"MEDLINE:1"}, ["DNA"]) == omitted.count({"g.xml:1"}, ["cell_type"]) == 0
    assert (second.record_id, second.text, second.spans, second.split) == ("g.xml:1", "Plain.\n", (), "train")


@pytest.mark.parametrize(
    ("sem", "kind"),
    [
        ("G#RNA_family_or_group", "RNA"),
        ("G#cell_type", "cell_type"),
        ("G#protein_NA", "protein"),
        ("G#cell_component", None),
        ("G#DNAx", None),
        (None, None),
    ],
)
def test_five_types(sem, kind):
    assert coarse(sem) == kind


def test_no_xml_and_no_articles():
    with pytest.raises(ConfigError, match=r"g.xml is no XML that can be read .line 1, column 17"):
        list(read(b"<set><secret> a</b></set>", "g.xml", Omitted()))
    with pytest.raises(ConfigError, match="no <article>"):
        list(read(b"<set/>", "g.xml", Omitted()))
