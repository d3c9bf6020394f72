"""Whether an embedder tells a finding from its absence.

Sentences that differ in a "no" are near each other in many embedders, and zero-shot answers rest on their difference alone. So
one half of the wordings gives a direction, present minus absent, and the other half of the wordings is ranked along it.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

ENOUGH = 0.8
"""With a lower area, zero-shot answers of an embedder mean little."""

FINDINGS = (
    *("pleural effusion", "pneumothorax", "pulmonary edema", "consolidation", "pneumonia", "atelectasis"),
    *("enlarged heart", "lung nodule", "rib fracture", "pleural thickening", "lung opacity", "central venous catheter"),
)
PRESENT = (
    *("{}", "there is {}", "{} is present", "{} is seen", "findings are consistent with {}", "evidence of {}"),
    *("the image shows {}", "{} has developed"),
)
ABSENT = (
    *("no {}", "there is no {}", "{} is absent", "{} is not seen", "findings are not consistent with {}", "no evidence of {}"),
    *("the image is free of {}", "{} has resolved"),
)


def negation_auc(embed: Callable[[Sequence[str]], NDArray], findings: Sequence[str] = FINDINGS) -> float:
    """The mean area under the ROC curve, 0.5 by chance, over findings and halves of the wordings.

    Args:
        embed: gives the embeddings [n, e] of n texts, of length 1.
    """
    areas = []
    for finding in findings:
        present, absent = (embed([wording.format(finding) for wording in wordings]) for wordings in (PRESENT, ABSENT))
        for half in (0, 1):
            direction = present[half::2].mean(0) - absent[half::2].mean(0)
            others = np.concatenate([present[1 - half :: 2], absent[1 - half :: 2]])
            areas.append(roc_auc_score(np.arange(len(others)) < len(others) // 2, others @ direction))
    return float(np.mean(areas))
