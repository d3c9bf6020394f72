import re

from engine.registry import histologies, sites
from engine.sources.synthetic import vocabulary
from engine.sources.synthetic.styles import templates

MEN_ONLY = {"C60", "C61", "C62", "C63"}
WOMEN_ONLY = {"C50", "C51", "C52", "C53", "C54", "C55", "C56", "C57", "C58"}


def test_every_category_has_words_a_weight_and_histologies_with_names():
    made = vocabulary.sites()
    assert [site.code for site in made] == list(sites())
    for site in made:
        assert len(site.terms) >= 4, site.code
        assert site.procedures and site.weight > 0, site.code
        assert len(site.histologies) == len(site.weights)
        assert all(weight > 0 for weight in site.weights), site.code
        assert set(site.histologies) <= set(histologies()) & set(vocabulary.phrases()), site.code


def test_no_term_stands_for_two_categories():
    owner = {}
    for site in vocabulary.sites():
        for term in site.terms:
            assert owner.setdefault(term.lower(), site.code) == site.code, term


def test_sex_goes_with_the_organ():
    by_code = {site.code: set(site.sexes) for site in vocabulary.sites()}
    assert {code for code, sexes in by_code.items() if sexes == {"male"}} == MEN_ONLY
    assert {code for code, sexes in by_code.items() if sexes == {"female"}} == WOMEN_ONLY


def test_case_of_letters_can_change_without_moving_an_offset():
    words = [t for s in vocabulary.sites() for t in s.terms] + [w for p in vocabulary.phrases().values() for w in p.words]
    assert all(len(word) == len(word.upper()) == len(word.lower()) for word in words)


def test_a_sites_own_phrases_come_before_the_general_ones():
    assert "papillary renal cell carcinoma" in vocabulary.phrases_for("8260/3", "C64").words
    assert vocabulary.phrases_for("8260/3", "C34") is vocabulary.phrases()["8260/3"]


def test_a_distractor_names_no_organ_of_its_own_category_and_none_of_the_other_sex():
    for site in vocabulary.sites():
        if site.group in vocabulary.SYSTEMIC:
            continue
        for sentence, _, _ in vocabulary.elsewhere(site.code, site.sexes[0]):
            assert not any(re.search(rf"\b{re.escape(term)}\b", sentence, re.IGNORECASE) for term in site.terms), sentence
    assert not any("prostat" in sentence for sentence, _, _ in vocabulary.elsewhere("C18", "female"))
    assert any("prostat" in sentence for sentence, _, _ in vocabulary.elsewhere("C18", "male"))


def test_sentences_are_filled_and_their_words_counted():
    pool = vocabulary.pool("gross", "gi")
    assert len(pool) > 100
    assert not any("{" in sentence for sentence, _, _ in pool)
    assert all(words == len(sentence.split()) for sentence, words, _ in pool)


def test_marrow_and_brain_get_no_margins():
    texts = " ".join(sentence for key in ("blood", "brain") for sentence, _, _ in vocabulary.pool("close", key))
    assert "argin" not in texts and "lymph nodes" not in texts
    assert "argin" in " ".join(sentence for sentence, _, _ in vocabulary.pool("close", "gi"))


def test_every_style_states_the_site_and_the_histology():
    found = templates()
    assert len(found.styles) >= 8
    for kind, options in found.dx.items():
        for parts in options:
            slots = {slot for _, slot in parts}
            assert slots & {"ls", "Ls"} and slots & {"h", "H"}, kind
    for style in found.styles:
        for parts in style.alternatives:
            slots = {slot for _, slot in parts}
            assert "dx" in slots or slots & {"h", "H"}, style.name
            assert "dx" in slots or slots & {"ls", "Ls"}, style.name
