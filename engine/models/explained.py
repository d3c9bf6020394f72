"""How a system lets the answers of its finished runs be explained: a small protocol, found as `<package>.explained`.

    load(spec, names, targets) -> Explained

`spec` is that of the run, `names` are what to explain (tasks, types; all where empty), `targets` what to explain in place of the
run's answers, by name. The module is importable without torch; models are made by the first `groups`.
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

# What is to be explained of a record: a code or type, and where it stands; a null is for the system to fill in.
ASKED = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("start", pa.int32()), pa.field("end", pa.int32())]))


@dataclass(frozen=True)
class Group:
    """Answers that one model explains. Groups of a call are over the same records, whose changed copies they share.

    `rows` says of each record of the batch which of the prepared rows it belongs to, `own` whether the model itself answers so.
    With `chosen` the targets are a user's, in place of the run's answers.
    """

    model: "Explainable"
    batch: Any
    targets: "Tensor"
    rows: Sequence[int]
    own: Sequence[bool]
    chosen: bool = False


class Explained(Protocol):
    """A system as it explains the answers of its runs."""

    system: System
    names: tuple[str, ...]  # what is explained: tasks, types
    columns: tuple[str, ...]  # of a run's row, which say what was answered
    own_methods: frozenset[str]  # beside those that every model can be explained with
    erasures: tuple[str, ...]  # ways of erasing a unit when faithfulness is measured
    kind: str  # what has those methods and ways, as a message names it: "the head 'cls'"

    def asked(self, answer: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """What is to be explained of a record, a value of `ASKED`, from the `columns` of its row in the run; of a record without
        a row something that takes the same way through the model."""

    def sizes(self, prepared: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and windows of each prepared record."""

    def groups(self, prepared: pa.Table, settings: "Settings") -> list[Group]:
        """The answers to explain of some prepared records, as the column `asked` has them; the row that a target belongs to goes
        by `rows`, and the targets of a row come in the order of the groups.

        Raises:
            RowError: what is asked for is not in the record.
        """


def load_explained(spec: ModelSpec, names: Sequence[str], targets: Mapping[str, str]) -> Explained:
    """The system of a run as it explains.

    Raises:
        ConfigError: it cannot, or has no such names or targets.
    """
    module = module_of(spec.system, "explained")
    if module is None:
        raise ConfigError(f"{spec.system} gives no answers that can be explained")
    return module.load(spec, names, targets)


def label_numbers(task: str, labels: Sequence[str], code: str, multi_label: bool = False) -> list[int]:
    """The labels that a code stands for; codes of a multi-label task are joined by `;`.

    Raises:
        ConfigError: the model does not know a code.
    """
    parts = [part for part in code.split(";") if part] if multi_label else [code]
    unknown = [part for part in parts if part not in labels]
    if unknown:
        raise ConfigError(f"the task {task} has no code '{unknown[0]}'; a target must be one the model knows")
    return [labels.index(part) for part in parts]
