"""The optional modules of a system's package."""

import sys

import pytest

from engine.errors import ConfigError
from engine.models.base import calibration, module_of, recipe


def made(folder, monkeypatch, **files):
    """A package of some modules."""
    package = folder / "home_made"
    package.mkdir()
    for name, text in {"__init__": "", **files}.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "home_made", raising=False)
    return "home_made"


def test_what_a_package_lacks_is_said_and_not_taken_for_what_its_modules_lack(tmp_path, monkeypatch):
    name = made(tmp_path, monkeypatch, explained="import nowhere_at_all", recipe="RECIPE = 7")
    assert module_of(name, "benchmark") is None and recipe(name) == 7
    with pytest.raises(ConfigError, match=r"^model.system: home_made cannot be calibrated; it has no calibrate$"):
        calibration(name)
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        module_of(name, "explained")


@pytest.mark.parametrize("name", ["no_such_package", "engine.models.no_such_system"])
def test_a_package_that_is_not_there_is_named(name):
    with pytest.raises(ConfigError, match=rf"^model.system: {name} cannot be imported"):
        module_of(name, "recipe")
    with pytest.raises(ConfigError, match=rf"^model.system: {name} cannot be imported"):
        recipe(name)
