"""What is different within a submitted Ray job: its working folder is a copy, and is removed when the job is over."""

import os
from collections.abc import Mapping
from pathlib import Path

from engine.errors import ConfigError

# Ray's job server sets it for the command of a job, and for nothing else.
_SIGN = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# The folder, one on each node, that Ray unpacks working folders into.
_COPIES = "working_dir_files"


def check_paths(paths: Mapping[str, str]) -> None:
    """ConfigError if a path, by the name of its key, would vanish with the job's working folder."""
    if _SIGN not in os.environ:
        return
    for name, path in paths.items():
        if "://" in path:
            continue
        if not os.path.isabs(path) or _COPIES in Path(path).parts:
            raise ConfigError(
                f"{name}={path}: lies in the folder of this Ray job, which is removed after it; give s3://... or an absolute "
                "path that all nodes share"
            )
