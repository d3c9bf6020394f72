"""Calls a function in a process of its own: `python -m engine.benchmarks.child <file with the call> <file for the answer>`.

A measured run must not inherit a warm allocator, loaded weights or a running cluster from the one before it. And an allocator
takes its settings, which the engine gives its actors, only from the environment that its process starts with.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import ContractError, EngineError
from engine.pipeline.config import ClusterConfig
from engine.storage import S3Config, s3_config, use_s3


def call(
    function: Callable[..., Any],
    *arguments: Any,
    cluster: ClusterConfig | None = None,
    s3: S3Config | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """The answer of a function that is called in a fresh process; function, arguments and answer are pickled.

    Args:
        cluster: gives the process the environment of an actor of this cluster; None: that of a user's command.
        s3: how the process reaches S3; None: as this one does. environment: variables to add to this process's.
    Raises:
        EngineError: the one that the function raised.
        ContractError: the process failed otherwise; its own words are on stderr.
    """
    environment = {**os.environ, **(environment or {})}
    if cluster is not None:
        from engine.pipeline.cluster import model_environment

        environment |= model_environment(replace(cluster, actors=1))
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "call"), Path(folder, "answer")
        question.write_bytes(pickle.dumps((function, arguments, s3 or s3_config())))
        command = [sys.executable, "-m", "engine.benchmarks.child", str(question), str(answer)]
        code = subprocess.run(command, env=environment).returncode
        if not answer.is_file():
            raise ContractError(f"benchmark: the process that runs {function.__name__} ended with exit code {code}")
        value = pickle.loads(answer.read_bytes())
    if isinstance(value, EngineError):
        raise value
    return value


def main(question: str, answer: str) -> int:
    """Makes the call in a file and writes what the function returns, or the engine's error that it raises."""
    function, arguments, s3 = pickle.loads(Path(question).read_bytes())
    use_s3(s3)
    try:
        value, code = function(*arguments), 0
    except EngineError as error:
        value, code = error, error.exit_code
    Path(answer).write_bytes(pickle.dumps(value))
    return code


if __name__ == "__main__":
    # Ctrl-C reaches the parent as well, which says what there is to say.
    with suppress(KeyboardInterrupt):
        sys.exit(main(*sys.argv[1:]))
    sys.exit(130)
