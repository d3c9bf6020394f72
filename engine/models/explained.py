"""The protocol by which a system explains the answers of its finished runs, in the module `<package>.explained`:

    load(spec, names, targets) -> Explained

`spec` is that of the run, `names` are the tasks or types to explain (empty for all), `targets` gives by name what to explain
instead of the run's answers. Importing the module does not import torch; the first call of `groups` builds the models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.models.base import ModelSpec, System, module_of

if TYPE_CHECKING:
    from torch import Tensor

    from engine.explain.protocol import Explainable
    from engine.explain.settings import Settings

# What to explain of a record: a code, a type with its place, or a finding with the run's yes (1) or no (0); the system fills in a
# null.
ASKED = pa.list_(pa.struct([("name", pa.string()), ("start", pa.int32()), ("end", pa.int32()), ("pred", pa.int8())]))


@dataclass(frozen=True)
class Group:
    """Answers that one model explains. The groups of one call have the same records and share their changed copies.

    For each record of the batch, `rows` is the number of its prepared row, and `own` says whether the target is the model's own
    answer. With `chosen` the targets are the user's instead of the run's answers.
    """

    model: "Explainable"
    batch: Any
    targets: "Tensor"
    rows: Sequence[int]
    own: Sequence[bool]
    chosen: bool = False


class Explained(Protocol):
    """A system that explains the answers of its runs."""

    system: System
    names: tuple[str, ...]  # what is explained: tasks, types
    columns: tuple[str, ...]  # of a run's row, with the answers
    own_methods: frozenset[str]  # beyond those that work for every model
    erasures: tuple[str, ...]  # ways of erasing a unit when faithfulness is measured
    perturbs: tuple[str, ...]  # ways of changing a copy when stability is measured
    kind: str  # the system's name in messages about these: "the head 'cls'"

    def asked(self, answer: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """What to explain of a record, a value of `ASKED`, from the `columns` of its row in the run; without a row a placeholder
        that takes the same path through the model."""

    def sizes(self, prepared: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and windows of each prepared record; of images the cells and the number of images."""

    def groups(self, prepared: pa.Table, settings: "Settings") -> list[Group]:
        """The targets of prepared records from the column `asked`; `rows` of a group says which row each belongs to, and the
        targets of a row have the order of the groups.

        Raises:
            RowError: a target is not in the record.
        """


def load_explained(spec: ModelSpec, names: Sequence[str], targets: Mapping[str, str]) -> Explained:
    """The explaining side of a run's system.

    Raises:
        ConfigError: it explains nothing, or has no such names or targets.
    """
    module = module_of(spec.system, "explained")
    if module is None:
        raise ConfigError(f"{spec.system} gives no answers that can be explained")
    return module.load(spec, names, targets)


def label_numbers(task: str, labels: Sequence[str], code: str, multi_label: bool = False) -> list[int]:
    """Numbers of a code's labels; codes of a multi-label task are joined by `;`.

    Raises:
        ConfigError: the model does not know a code.
    """
    parts = [part for part in code.split(";") if part] if multi_label else [code]
    unknown = [part for part in parts if part not in labels]
    if unknown:
        raise ConfigError(f"the task {task} has no code '{unknown[0]}'; a target must be one the model knows")
    return [labels.index(part) for part in parts]
