"""Exactly-once batch coding on Ray Data: see `run`.

    plan  ->  read and prepare  ->  model  ->  commit  ->  publish

Importing this package does not import Ray: a finished run, a status and the child process do without.
"""

from engine.pipeline.config import ClusterConfig, RunConfig
from engine.pipeline.progress import Progress, Standing
from engine.pipeline.run import run
from engine.pipeline.status import Summary, status

__all__ = ["ClusterConfig", "Progress", "RunConfig", "Standing", "Summary", "run", "status"]
