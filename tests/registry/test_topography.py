import pytest

from engine.registry import is_site, site_name, sites


def test_there_are_the_70_categories_in_order():
    gaps = {27, 28, 29, 35, 36, 43, 45, 46, 59, 78, 79}
    existing = [f"C{n:02d}" for n in range(81) if n not in gaps]
    assert len(existing) == 70
    assert list(sites()) == existing


@pytest.mark.parametrize("code", ["C27", "C81", "C50.9", "c50", "", "50"])
def test_what_is_no_category_is_refused(code):
    assert not is_site(code)
    with pytest.raises(KeyError):
        site_name(code)


def test_names_are_short_and_tell_categories_apart():
    names = [site_name(code) for code in sites()]
    assert site_name("C50") == "breast"
    assert is_site("C50")
    assert len(set(names)) == 70
    assert all(0 < len(name) <= 40 for name in names)
