"""A study as a file under conf/study tells it: its arms, corpora and seeds, what is measured of each, and what is compared.

    question: What should stand in front of the text?
    system: prompt_mrc
    corpora: {NCBI-disease: ner_en/NCBI-disease.parquet}      # paths below data.path
    seeds: [1, 2, 3]
    base: {train.epochs: 3, train.rate: 2e-3}                 # settings of every arm
    arms: {tagger: {model.mode: tagger}, name: {model.mode: name}}
    measure: [spans, training]
    compare: [{with: name, metrics: [f1], over: [seeds, texts]}]

`arms` are the levels of one factor. A study of several factors names them under `factors`, each with its levels; its arms are all
combinations, called by their levels joined with `-`. A level that names `corpora` is measured on these alone. A corpus may be
`{path: <path>, <setting>: <value>}`: settings of every arm on it, which override those of `base` and give way to the levels'.

A setting `{after: <study>, <factor>: <level>}` stands for the folder of the model of that arm, on the same corpus and with the
same seed where that study has them, else with its only ones; `corpus` in it names another one, and `at`, such as
`path:{folder}`, says how the folder is written into the setting.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.keys import closest

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "study"
SEEDS, TEXTS = "seeds", "texts"
ARM, AFTER, AT, CORPORA = "arm", "after", "at", "corpora"
_LEVEL = re.compile(r"[A-Za-z0-9_.+=][A-Za-z0-9_.+=-]*")
_KEYS = {
    "question",
    "system",
    "fit",
    "corpora",
    "seeds",
    "base",
    "arms",
    "factors",
    "measure",
    "compare",
    "rounds",
    "tables",
    "plots",
}


@dataclass(frozen=True)
class Arm:
    """One model under one name: a level of every factor, on one corpus, with one seed. `settings` have dotted keys."""

    corpus: str
    levels: Mapping[str, str]
    seed: int
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        return "-".join(self.levels.values())

    @property
    def key(self) -> str:
        """The arm's own path in a folder."""
        return f"{self.corpus}/{self.name}/{self.seed}"

    def at(self, **levels: str) -> str:
        """The name of the arm with other levels of some factors."""
        return "-".join({**self.levels, **levels}.values())


@dataclass(frozen=True)
class Comparison:
    """Pairs of levels of one factor; every arm with the first one is compared with the arm that has the second in its place.

    Args:
        less: factor -> level: from each difference the same difference at this level is taken (an interaction).
        over: `seeds`: a paired t-test; `texts`: a paired bootstrap over test texts, the models fixed.
        ratio: the first figure is divided by the second, where it else is what it has more; there is no p then.
        together: whether the comparisons of all corpora are one family of Holm's correction; else those of each corpus are.
    Only comparisons of one entry and metric are in one family.
    """

    factor: str
    pairs: tuple[tuple[str, str], ...]
    metrics: tuple[str, ...]
    over: tuple[str, ...] = (SEEDS, TEXTS)
    less: Mapping[str, str] = field(default_factory=dict)
    ratio: bool = False
    together: bool = False

    def slice(self, against: str) -> str:
        return ", ".join([f"{'of' if self.ratio else 'less'} {against}", *(f"less {level}" for level in self.less.values())])


@dataclass(frozen=True)
class Study:
    """See the module. `fit` says how an arm becomes a model, and `measure` what is measured of it: names of modules."""

    name: str
    question: str
    system: str
    corpora: Mapping[str, str]
    factors: Mapping[str, Mapping[str, Mapping[str, Any]]]
    measure: tuple[str, ...]
    fit: str = "whole"
    seeds: tuple[int, ...] = (7,)
    base: Mapping[str, Any] = field(default_factory=dict)
    compare: tuple[Comparison, ...] = ()
    rounds: int = 1000
    tables: Mapping[str, Any] = field(default_factory=dict)
    of_corpus: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    plots: Mapping[str, Any] = field(default_factory=dict)

    def arms(self) -> list[Arm]:
        """In the order in which they are measured: corpus by corpus, seed by seed."""
        arms = []
        for corpus, seed in itertools.product(self.corpora, self.seeds):
            for names in itertools.product(*self.factors.values()):
                levels = dict(zip(self.factors, names, strict=True))
                parts = [self.factors[factor][level] for factor, level in levels.items()]
                if all(corpus in part.get(CORPORA, self.corpora) for part in parts):
                    parts = [self.base, self.of_corpus.get(corpus, {}), *parts]
                    merged = {key: value for part in parts for key, value in part.items() if key != CORPORA}
                    arms.append(Arm(corpus, levels, seed, merged))
        return arms

    def digest(self, arm: Arm) -> str:
        """Of all that decides an arm's rows but the corpus's own words; models of other studies count by their names."""
        settings = {**arm.settings, "seed": arm.seed, "corpus": self.corpora[arm.corpus]}
        values = [self.system, self.fit, list(self.measure), self.rounds, settings]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def arm(self, corpus: str, seed: int, levels: Mapping[str, str]) -> Arm:
        """The arm that another study means.

        Raises:
            ConfigError: there is not exactly one.
        """
        corpus = corpus if corpus in self.corpora or len(self.corpora) > 1 else next(iter(self.corpora))
        seed = seed if seed in self.seeds or len(self.seeds) > 1 else self.seeds[0]
        arms = [arm for arm in self.arms() if (arm.corpus, arm.seed) == (corpus, seed) and levels.items() <= arm.levels.items()]
        if len(arms) != 1:
            raise ConfigError(f"study: {self.name} has {len(arms)} arms {dict(levels)} on {corpus} with seed {seed}; name one")
        return arms[0]


def names() -> list[str]:
    """The studies under conf/study."""
    return sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.yaml"))


def read_study(name: str) -> Study:
    """A study by its name under conf/study, or by the path of a YAML file.

    Raises:
        ConfigError: there is none, or its file says something that no study has.
    """
    file = Path(name).expanduser() if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not file.is_file():
        raise ConfigError(
            f"study: no study '{name}'{closest(name, names())}; there are {', '.join(names())}; or give a .yaml file"
        )
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        values = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError):
        raise ConfigError(f"study: {file} is no YAML that can be read; mend it") from None
    named = file.stem if name.endswith(".yaml") else name
    return study_of(named, values)


def study_of(name: str, values: Any) -> Study:
    """A study from plain values, those of its file.

    Raises:
        ConfigError: a key is unknown or missing, or a value is not what its key takes.
    """

    def wrong(what: str) -> ConfigError:
        return ConfigError(f"study: {name}: {what}")

    if not isinstance(values, Mapping):
        raise wrong("the file must hold keys and values")
    unknown = sorted(set(values) - _KEYS)
    missing = sorted({"question", "system", "corpora", "measure"} - set(values))
    if unknown or missing:
        raise wrong(f"the key '{unknown[0]}' is unknown" if unknown else f"the key '{missing[0]}' is missing")
    if ("arms" in values) == ("factors" in values):
        raise wrong("give either arms or factors")
    factors = values.get("factors") or {ARM: values["arms"]}
    factors = {factor: {str(level): part or {} for level, part in levels.items()} for factor, levels in factors.items()}
    places = {
        str(corpus): place if isinstance(place, Mapping) else {"path": place} for corpus, place in values["corpora"].items()
    }
    if not all("path" in place for place in places.values()):
        raise wrong("a corpus is a path, or has one as `path`")
    corpora = {corpus: str(place["path"]) for corpus, place in places.items()}
    for label in (*corpora, *(level for levels in factors.values() for level in levels)):
        if not _LEVEL.fullmatch(label):
            raise wrong(f"'{label}' cannot be part of a file's name; use letters, digits and _ . + = -")
    seeds = tuple(values.get("seeds", (7,)))
    if not corpora or not seeds or not all(factors.values()) or len(set(seeds)) < len(seeds):
        raise wrong("name at least one corpus, one arm, and one seed, each seed once")
    return Study(
        name=name,
        question=values["question"],
        system=values["system"],
        corpora=corpora,
        factors=factors,
        measure=tuple(values["measure"]),
        fit=values.get("fit", "whole"),
        seeds=seeds,
        base=values.get("base") or {},
        compare=tuple(_comparison(each, factors, wrong) for each in values.get("compare") or ()),
        rounds=values.get("rounds", 1000),
        tables=values.get("tables") or {},
        of_corpus={corpus: {key: value for key, value in place.items() if key != "path"} for corpus, place in places.items()},
        plots=values.get("plots") or {},
    )


def _comparison(entry: Mapping[str, Any], factors: Mapping[str, Any], wrong: Any) -> Comparison:
    unknown = sorted(set(entry) - {"factor", "with", "pairs", "metrics", "over", "less", "ratio", "together"})
    if unknown or "metrics" not in entry or ("with" in entry) == ("pairs" in entry):
        raise wrong("a comparison has metrics, either with or pairs, and perhaps factor, over, less, ratio and together")
    if entry.get("ratio") and entry.get("less"):
        raise wrong("a comparison is a ratio, or has less")
    factor = entry.get("factor", ARM)
    if factor not in factors:
        raise wrong(f"there is no factor '{factor}' to compare")
    levels = factors[factor]
    pairs: Sequence[Sequence[str]] = entry.get("pairs") or [(level, entry["with"]) for level in levels if level != entry["with"]]
    used = [(factor, str(level)) for pair in pairs for level in pair] + list((entry.get("less") or {}).items())
    for name, level in used:
        if level not in factors.get(name, {}):
            raise wrong(f"there is no level '{level}' of {name} to compare")
    over = tuple(entry.get("over", (SEEDS, TEXTS)))
    pairs = tuple((str(one), str(other)) for one, other in pairs)
    flags = bool(entry.get("ratio")), bool(entry.get("together"))
    return Comparison(factor, pairs, tuple(entry["metrics"]), over, entry.get("less") or {}, *flags)
