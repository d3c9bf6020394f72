"""A driver in a process of its own, to be killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(cluster: str, /, **order) -> subprocess.Popen:
    """Starts `tests.toys.drive` on a cluster."""
    order = {"shard_bytes": 400, **order}
    order["cluster"] = {"address": cluster, "child_memory_gb": 0.5, **order.get("cluster", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.toys.drive", json.dumps(order)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen, patience: float = 500) -> tuple[int, str, str]:
    """Its exit code and what it said, when it has ended."""
    out, err = process.communicate(timeout=patience)
    return process.returncode, out, err
