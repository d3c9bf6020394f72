"""A submitted Ray job works in a copy of the user's folder, which is removed when the job is over."""

import os
from collections.abc import Mapping
from pathlib import Path

from engine.errors import ConfigError

# Ray's job server sets it for the command of a job, and only there.
_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# The folder on each node into which Ray unpacks working folders.
_COPIES = "working_dir_files"


def check_paths(paths: Mapping[str, str]) -> None:
    """ConfigError if a path (by the name of its key) would vanish with the job's working folder."""
    for name, path in paths.items() if _MARK in os.environ else ():
        if "://" not in path and (not os.path.isabs(path) or _COPIES in Path(path).parts):
            raise ConfigError(
                f"{name}={path}: lies in the folder of this Ray job, which is removed after it; give s3://... or an absolute "
                "path that all nodes share"
            )
