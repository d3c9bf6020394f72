"""The part of the GPU check that concerns the site classifier alone, see `engine.benchmarks.gpu_check`."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from engine.models.code_system import CodeSystem

if TYPE_CHECKING:
    from engine.models.site_classifier.coder import SiteCoder

unsure = CodeSystem.unsure


def extra(system: "SiteCoder", prepared: pa.Table) -> dict[str, bool]:
    """Whether each evidence method gives evidence on this device, and the same codes as without evidence."""
    from engine.models.site_classifier.coder import SiteCoder

    few = prepared.slice(0, 4)
    columns = [f"{task.name}_code" for task in system.config.tasks]
    codes = system.run(few).sort_by("row").select(columns)
    checks = {}
    for method in system.config.evidence_methods:
        runtime = {"device": system.device, "batch_tokens": system.budget}
        rows = SiteCoder(system.checkpoint, replace(system.options, method=method), runtime).run(few).sort_by("row")
        evident = all(row[f"{task.name}_evidence"] for row in rows.to_pylist() for task in system.config.tasks)
        checks[f"evidence by {method}"] = evident and rows.select(columns).equals(codes)
    return checks
