"""The keys of labelled reports that only this system has: further columns, synthetic reports, highlights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.errors import ConfigError
from engine.keys import key
from engine.models.code_columns import CodeColumns, CodeData
from engine.models.site_classifier.rationales import KINDS
from engine.sources.labelled import Labelled

TASKS = {"site": "site", "histology": "histology"}


@dataclass(frozen=True)
class ReportColumns(CodeColumns):
    """`rationales` names a column with highlights, `rationale_table` a Parquet file with them; `samples` are the kinds of samples
    that train gets from them, see `engine.models.site_classifier.rationales`.
    """

    pair: str | None = key(None, "Column with a second text that is read in front of every window, such as a question.")
    leak: str | None = key(
        None, "Column that is true if the text contains the code itself; figures for such rows are given separately."
    )
    synthetic: int = key(0, "Number of synthetic reports to add to the training set, so that it contains rare codes.", low=0)
    synthetic_seed: int = key(11, "Seed of the synthetic reports.", low=0)
    synthetic_skew: str = key("uniform", "How common the sites are among synthetic reports.", choices=("uniform", "registry"))
    rationales: str | None = key(
        None, "Column with highlights: a list with start and end of each highlight, and label and annotator if known."
    )
    rationale_table: str | None = key(
        None, "Parquet file with highlights instead: record_id, start, end, and label and annotator if known.", path=True
    )
    samples: tuple[str, ...] = key(("rationale",), "Samples made from highlights, in addition to the reports.", choices=KINDS)


@dataclass(frozen=True)
class DataConfig(CodeData, ReportColumns):
    """Where labelled reports are, which columns hold what, and how they are read; without `labels` these are `TASKS`."""

    further = ("leak", "pair", "rationales")

    labels: Mapping[str, str] = key({}, "Column with the code for each task; {} means {site: site, histology: histology}.")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "labels", dict(self.labels or TASKS))
        if self.synthetic and (self.pair or self.multi_label):
            raise ConfigError("data.synthetic: synthetic reports have one code a task and no second text; set it to 0")
        if self.rationales and self.rationale_table:
            raise ConfigError("data.rationale_table: highlights stand in data.rationales already; name one of them")

    @property
    def highlighted(self) -> bool:
        return bool(self.rationales or self.rationale_table)

    def labelled(self, path: str, format: str) -> Labelled:
        labelled, more = super().labelled(path, format), {} if self.leak is None else {"leak": self.leak}
        names = {**labelled.names, "marks": "data.rationales"}
        return replace(labelled, pair=self.pair, marks=self.rationales, more=more, names=names)
