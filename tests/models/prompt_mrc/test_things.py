"""Made-up sentences about things of many kinds."""

from collections import Counter

from engine.models.prompt_mrc.things import MADE_UP, kinds, made_up


def test_each_text_marks_the_things_that_it_names():
    texts = list(made_up(300))
    assert len({each.record_id for each in texts}) == 300 and {each.dataset for each in texts} == {MADE_UP}
    items = {name: [item.lower() for item in kind.items] for name, kind in kinds().items()}
    for each in texts:
        assert each.checked() == each and 2 <= len(each.spans) <= 6
        for span in each.spans:
            thing = each.text[span.start : span.end].lower()
            assert any(item.endswith(thing) for item in items[span.type])
            assert not thing.startswith(("a ", "an ", "the "))
    counts = Counter(span.type for each in texts for span in each.spans)
    assert set(counts) == set(kinds())
    assert list(made_up(300)) == texts


def test_kinds_have_names_carriers_and_things():
    for kind in kinds().values():
        assert kind.names and len(kind.items) == len(set(kind.items)) >= 7
        assert all(carrier.count("{}") == 1 for carrier in kind.carriers)
