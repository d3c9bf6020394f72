"""What a failed training becomes: which of Ray's errors wraps one of the engine's, and which means that workers were lost."""

from collections.abc import Iterable, Iterator

from engine.errors import ConfigError, ContractError, EngineError, RetryableError


def engine_error(failures: Iterable[BaseException]) -> EngineError | None:
    """The engine's own error among the failures of workers; None where a worker was lost, since the others then fail with it.

    The training code raises only errors of the engine (`engine.training.fit`), so anything else is Ray's: a worker died or did
    not start. Of several errors a user's mistake comes before a passing trouble, and that before a bug.
    """
    errors = []
    for failure in failures:
        error = next((cause for cause in _causes(failure) if isinstance(cause, EngineError)), None)
        if error is None:
            return None
        errors.append(error)
    ranks = (ConfigError, RetryableError, EngineError)
    return min(errors, key=lambda error: next(i for i, kind in enumerate(ranks) if isinstance(error, kind)), default=None)


def training_error(error: BaseException) -> EngineError:
    """The error to raise for the one that Ray Train gave up with."""
    workers = getattr(error, "worker_failures", None)
    failures = workers.values() if workers else [getattr(error, "controller_failure", error)]
    return engine_error(failures) or RetryableError(
        f"training lost its workers more often than cluster.max_failures allows ({type(error).__name__}); "
        "run the same command to go on from its checkpoint"
    )


def worth_retrying(failures: Iterable[BaseException]) -> bool:
    """Whether the same work may succeed on a new worker, which it cannot after a user's mistake."""
    error = engine_error(failures)
    return error is None or isinstance(error, ContractError | RetryableError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it wraps; Ray keeps them under several names."""
    seen: list[BaseException] = []
    queue = [error]
    while queue:
        error = queue.pop(0)
        if error not in seen:
            seen.append(error)
            yield error
            wrapped = [getattr(error, name, None) for name in ("_base_exc", "cause", "controller_failure", "__cause__")]
            queue += [inner for inner in wrapped if isinstance(inner, BaseException)]
