"""A function in a process of its own: `python -m engine.benchmarks.child <module:function> <request> <answer>`.

A run that is measured must not inherit a warm allocator, loaded weights or a running cluster from the one before it. And the
model's allocator settings, which the engine gives its actors, can only be given to a process at its start.
"""

import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EXIT_CONFIG, EXIT_RETRY, ConfigError, ContractError, EngineError, RetryableError
from engine.storage import S3Config, s3_config, use_s3

if TYPE_CHECKING:
    from engine.pipeline.config import ClusterConfig


def measure(
    function: str,
    request: Mapping[str, Any],
    cluster: "ClusterConfig | None" = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """What a function gives for a request, called in a fresh process; plain values both ways.

    Args:
        function: `module:name`. request: what it takes; `s3` in it is how the process reaches S3, as this one does without.
        cluster: the process has the environment that an actor of this cluster has; None: a user's own.
        environment: what the process has beyond this one's.

    Raises:
        ConfigError, RetryableError: as the child raised it.
        ContractError: the child failed otherwise; its own words are on stderr.
    """
    environment = {**os.environ, **(environment or {})}
    if cluster is not None:
        from engine.pipeline.cluster import model_environment

        environment |= model_environment(replace(cluster, actors=1))
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        question.write_text(json.dumps({"s3": asdict(s3_config()), **request}))
        command = [sys.executable, "-m", "engine.benchmarks.child", function, str(question), str(answer)]
        code = subprocess.run(command, env=environment).returncode
        if not answer.is_file():
            raise ContractError(f"benchmark: the process that runs {function} ended with exit code {code}")
        given = json.loads(answer.read_text())
    if "error" in given:
        kinds = {EXIT_CONFIG: ConfigError, EXIT_RETRY: RetryableError}
        raise kinds.get(given["code"], ContractError)(given["error"])
    return given["value"]


def main(function: str, question: str, answer: str) -> int:
    code = 0
    request = json.loads(Path(question).read_text())
    use_s3(S3Config(**request.pop("s3", {})))
    try:
        given = {"value": pkgutil.resolve_name(function)(request)}
    except EngineError as error:
        given, code = {"error": str(error), "code": error.exit_code}, error.exit_code
    Path(answer).write_text(json.dumps(given))
    return code


if __name__ == "__main__":
    # Ctrl-C reaches the parent as well, which says what there is to say.
    with suppress(KeyboardInterrupt):
        sys.exit(main(*sys.argv[1:]))
    sys.exit(130)
