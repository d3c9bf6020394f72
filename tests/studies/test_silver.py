"""Terms found in invented texts, by hand."""

import pytest

from engine.errors import ConfigError
from engine.studies.silver import Terms, heading_terms, screening_list, site_terms


def found(terms, text, but=()):
    return [text[start:end] for start, end in Terms(terms, but).spans(text)]


def test_a_term_is_whole_words_in_any_case_and_over_line_breaks():
    text = "LEFT  UPPER\nLobe: a lobe, and lobes; left upper. Lobe"
    assert found(["left upper lobe"], text) == ["LEFT  UPPER\nLobe"]
    assert found(["lobe"], text) == ["Lobe", "lobe", "Lobe"]


def test_the_longest_term_at_a_place_counts_and_a_longer_one_that_fails_does_not_hide_it():
    terms = ["carcinoma", "carcinoma in situ", "ductal carcinoma"]
    assert found(terms, "Ductal carcinoma in situ; carcinoma in a node") == ["Ductal carcinoma", "carcinoma"]
    assert found(["a b c"], "a b a b c") == ["a b c"]


def test_what_a_negative_phrase_holds_is_hidden():
    assert found(["malignancy"], "No evidence of malignancy. Malignancy there.", ["no evidence of malignancy"]) == ["Malignancy"]


def test_offsets_hold_beyond_the_basic_plane_and_for_letters_that_grow_in_lower_case():
    assert Terms(["größe"]).spans("😀 GRÖßE İx größe") == [(2, 7), (11, 16)]


def test_a_list_is_read_by_kind_without_codes_short_words_and_lymph_nodes(tmp_path):
    (tmp_path / "list.txt").write_text(
        "oat cell tumor|Positive\nC34.1|Positive\nii iii|Positive\nLymph nodes|Positive\n\nno barley|Negative\n"
    )
    assert screening_list(tmp_path / "list.txt") == (["oat cell tumor"], ["no barley"])
    (tmp_path / "bad.txt").write_text("oat cell tumor\n")
    with pytest.raises(ConfigError, match="line 1 of bad") as caught:
        screening_list(tmp_path / "bad.txt")
    assert "oat" not in str(caught.value)
    with pytest.raises(ConfigError, match="need the list"):
        screening_list(tmp_path / "none.txt")


def test_the_terms_of_a_site_are_its_own():
    assert "lung" in site_terms("C34") and "lung" not in site_terms("C50")
    assert site_terms("X99") == ()


def test_headings_give_their_head_word_in_both_numbers():
    assert heading_terms(["Opacity/lung/base/left"]) == ("opacity", "opacities")
    assert heading_terms(["Catheters, Indwelling/right", "Pleural Effusion"]) == (
        "catheters",
        "catheter",
        "effusion",
        "effusions",
    )
    assert heading_terms(["Aorta/tortuous", "Diaphragm/right/elevated"]) == ("tortuous", "tortuouss", "elevated", "elevateds")
    assert heading_terms(["Airspace Disease/lung"]) == ("airspace disease", "airspace diseases")
    assert heading_terms(["Spondylosis", "Lung"]) == ("spondylosis", "spondylosiss")
