"""Keys: declared once in a dataclass, put together, taken apart, and values checked by them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import pytest

from engine.errors import ConfigError
from engine.keys import MISSING, build, closest, compose, extract, key, keys_of, options_from, section


@dataclass
class Output:
    path: str = key(MISSING, "Folder.", path=True)


@dataclass
class Cluster:
    threads: int | None = key(None, "Threads.", low=1)


@dataclass
class First:
    output: Output = section(Output)


@dataclass
class Last:
    cluster: Cluster = section(Cluster)
    max_failed: float = key(1.0, "Share.", low=0.0, high=1.0)


@dataclass(frozen=True)
class Options:
    max_tokens: int = key(100, "Tokens.", at="text.max_tokens", low=16)
    precision: str = key("auto", "Arithmetic.", at="cluster.precision", choices=("auto", "fp32"))
    same: bool = key(False, "Same bits.", at="same")
    checks: float = key(0.02, "Share.", at="explain.checks_fraction", low=0.0, high=1.0)
    tasks: tuple[str, ...] = key(("site",), "Tasks.", at="text.tasks")
    rules: tuple[str, ...] | None = key(None, "Rules.", at="text.rules", choices=("a", "b"))
    sizes: list[int] = key([1, 2], "Sizes.", at="text.sizes", low=1)
    thresholds: Mapping[str, float] = key({}, "Thresholds.", at="text.thresholds", low=0.0, high=1.0)
    made: str = "no key"

    def __post_init__(self) -> None:
        if self.checks == 0.5:
            raise ConfigError("explain.checks_fraction: 0.5 is unlucky")


def test_a_key_of_a_flat_dataclass_has_the_name_that_it_is_given() -> None:
    found = {each.name: each for each in keys_of(Options)}
    assert list(found)[:4] == ["text.max_tokens", "cluster.precision", "same", "explain.checks_fraction"]
    assert len(found) == len(fields(Options)) - 1
    tasks, thresholds = found["text.tasks"], found["text.thresholds"]
    assert (tasks.kind, tasks.inner, tasks.default, tasks.is_texts) == (list, str, ("site",), True)
    assert (thresholds.kind, thresholds.inner, thresholds.wants) == (dict, float, "{name: a number, ...} from 0 to 1")
    assert (found["text.rules"].kind, found["text.rules"].optional) == (list, True)
    assert found["text.rules"].wants == "a list out of a, b, or null"


def test_keys_are_put_together_in_order_and_share_sections() -> None:
    made = compose(First, Options, Last)
    assert [each.name for each in keys_of(made)] == [
        "output.path",
        "text.max_tokens",
        "text.tasks",
        "text.rules",
        "text.sizes",
        "text.thresholds",
        "explain.checks_fraction",
        "same",
        "cluster.threads",
        "cluster.precision",
        "max_failed",
    ]
    by_name = {each.name: each for each in keys_of(made)}
    for each in keys_of(Options):
        found = by_name[each.name]
        assert (found.wants, found.help, found.path) == (each.wants, each.help, each.path)
        assert found.default == (list(each.default) if isinstance(each.default, tuple) else each.default)


def test_a_default_is_copied_for_each_configuration() -> None:
    made = compose(Options)
    made().text.sizes.append(3)
    made().text.tasks.append("histology")
    assert made().text.sizes == [1, 2] and made().text.tasks == ["site"] and Options().sizes == [1, 2]


def test_what_was_put_together_is_taken_apart_again() -> None:
    values = {
        "output": {"path": "out"},
        "text": {"max_tokens": 50, "tasks": ["a", "b"], "rules": ["a"], "thresholds": {"a": 0.5}},
        "explain": {"checks_fraction": 1.0},
        "cluster": {"precision": "fp32"},
        "same": True,
    }
    config = build(compose(First, Options, Last), values)
    assert extract(Options, config) == Options(50, "fp32", True, 1.0, ("a", "b"), ("a",), [1, 2], {"a": 0.5})
    assert extract(First, config) == First(Output("out")) and extract(Last, config) == Last(Cluster(None), 1.0)
    assert extract(Options, build(compose(Options), {})) == Options()
    with pytest.raises(ConfigError, match="unlucky"):
        extract(Options, build(compose(Options), {"explain": {"checks_fraction": 0.5}}))


def test_a_key_that_is_there_already_is_refused() -> None:
    @dataclass
    class Mine:
        folder: str = key("x", "Folder.", at="output.path")

    with pytest.raises(ConfigError, match=r"output\.path: is a key already"):
        compose(First, Mine)


def test_sections_of_settings_that_are_frozen_and_have_tuples_are_built() -> None:
    @dataclass(frozen=True)
    class Learn:
        rate: float = key(1e-3, "Rate.", low=0.0)
        steps: tuple[int, ...] = key((1, 2), "Steps.", low=1)
        made: int = field(default=7)

    @dataclass(frozen=True)
    class Settings:
        learn: Learn = section(Learn)
        baseline: bool = key(True, "Baseline.")

    made = compose(Settings, First)
    assert [each.name for each in keys_of(made)] == ["learn.rate", "learn.steps", "baseline", "output.path"]
    config = build(made, {"learn": {"steps": [3]}, "output": {"path": "x"}})
    assert extract(Settings, config) == Settings(Learn(steps=(3,)))
    assert build(Settings, {"learn": {"steps": [3]}}) == Settings(Learn(steps=(3,)))


def test_two_may_declare_the_same_section() -> None:
    @dataclass
    class Model:
        system: str = key(MISSING, "Package.")

    @dataclass
    class Common:
        model: Model = section(Model)
        output: Output = section(Output)

    @dataclass(frozen=True)
    class Network:
        rank: int = key(32, "Rank.", low=1)

    @dataclass(frozen=True)
    class Settings:
        model: Network = section(Network)

    made = compose(Common, Settings)
    assert [each.name for each in keys_of(made)] == ["model.system", "model.rank", "output.path"]
    config = build(made, {"model": {"system": "x", "rank": 2}, "output": {"path": "y"}})
    assert extract(Settings, config) == Settings(Network(2)) and extract(Common, config) == Common(Model("x"), Output("y"))


def test_options_are_made_of_plain_values() -> None:
    found = options_from(Options, {"tasks": ["a"], "rules": None, "checks": 1, "thresholds": {"a": 1}, "made": "x"})
    assert found == Options(tasks=("a",), checks=1, thresholds={"a": 1}, made="x")
    assert options_from(Options, {}) == Options()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"maxtokens": 1},
            r"^model: unknown options maxtokens \(did you mean 'max_tokens'\?\); this system has max_tokens, .*, made$",
        ),
        ({"max_tokens": 2}, r"^max_tokens \(text.max_tokens\): 2 is not allowed; wants a whole number, at least 16$"),
        ({"max_tokens": 20.0}, "20.0 is not allowed; wants a whole number"),
        ({"max_tokens": True}, "True is not allowed; wants a whole number"),
        ({"max_tokens": None}, "None is not allowed; wants a whole number"),
        ({"checks": "1"}, "'1' is not allowed; wants a number from 0 to 1"),
        ({"checks": float("nan")}, "nan is not allowed; wants a number"),
        ({"checks": 0.5}, "0.5 is unlucky"),
        ({"same": 1}, r"^same: 1 is not allowed; wants true or false$"),
        ({"precision": "fp23"}, r"'fp23' is not allowed \(did you mean 'fp32'\?\); wants one of auto, fp32"),
        ({"tasks": "site"}, "'site' is not allowed; wants a list, such as"),
        ({"tasks": [1]}, "1 is not allowed; wants a list, such as"),
        ({"rules": ["c"]}, "'c' is not allowed; wants a list out of a, b, or null"),
        ({"sizes": [1, 0]}, "0 is not allowed; wants a list of whole numbers, at least 1"),
        ({"thresholds": [0.5]}, r"\[0.5\] is not allowed; wants {name: a number, ...} from 0 to 1"),
        ({"thresholds": {"a": 2.0}}, "2.0 is not allowed"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(values: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        options_from(Options, values)
    assert "\n" not in str(error.value)


def test_a_close_word_is_suggested() -> None:
    assert closest("inptu.path", ["input.path", "spans"]) == " (did you mean 'input.path'?)"
    assert closest("path", ["input.path", "spans"]) == " (did you mean 'input.path'?)"
    assert closest("wholly", ["input.path", "spans"]) == ""
