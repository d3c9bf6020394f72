"""What is told of documents that cannot be used."""

from engine.sources.labelled import Broken, Document


def broken(record_id, reason):
    return Document(record_id, "", broken=reason)


def test_reasons_that_differ_in_numbers_are_one_and_the_commonest_comes_first():
    tags = [broken(f"t{at}", f"iob2: the tag of token {at} is none of O, B-<type>, I-<type>") for at in (2, 31, 4)]
    found = Broken.of([broken("n", "no text"), tags[0], Document("s", "ab"), *tags[1:]])
    assert (found.texts, found.count) == (5, 4)
    kind = "iob2: the tag of token N is none of O, B-<type>, I-<type>"
    assert [(each.kind, each.count, each.record_id) for each in found.reasons] == [(kind, 3, "t2"), ("no text", 1, "n")]
    told = "4 of 5 texts cannot be used: iob2: the tag of token 2 is none of O, B-<type>, I-<type> (3, the first is 't2')"
    assert found.lines() == [told, "4 of 5 texts cannot be used: no text (1, the first is 'n')"]


def test_lines_end_where_nobody_reads_on():
    found = Broken.of([broken(f"{name}", f"reason\n{name}") for name in "abcdefg"])
    assert len(found.lines()) == 6
    assert found.lines()[0] == "7 of 7 texts cannot be used: reason a (1, the first is 'a')"
    assert found.lines()[-1] == "7 of 7 texts cannot be used: 2 further reasons (2)"
    assert Broken.of([Document("s", "ab")]).lines() == [] and Broken.of([]).count == 0
