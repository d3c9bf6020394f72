"""What a failed training becomes: which of Ray's errors hides one of ours, and which says that workers were lost."""

from collections.abc import Iterable, Iterator

from engine.errors import ConfigError, ContractError, EngineError, RetryableError


def ours(failures: Iterable[BaseException]) -> EngineError | None:
    """The engine's own error among the failures of workers; None where any worker was lost, since the others then fail with it.

    The training code raises nothing but errors of the engine (`engine.training.fit`), so anything else is Ray's: a worker died,
    or did not start. Of several, the one that says most is given: a mistake before a passing trouble before a bug.
    """
    found = []
    for failure in failures:
        inner = next((each for each in _within(failure) if isinstance(each, EngineError)), None)
        if inner is None:
            return None
        found.append(inner)
    ranks = (ConfigError, RetryableError, EngineError)
    return min(found, key=lambda error: next(i for i, kind in enumerate(ranks) if isinstance(error, kind)), default=None)


def stopped(error: BaseException) -> EngineError:
    """The error to raise for one that Ray Train gave up with."""
    workers = getattr(error, "worker_failures", None)
    found = ours(workers.values() if workers else [getattr(error, "controller_failure", error)])
    return found or RetryableError(
        f"training lost its workers more often than cluster.max_failures allows ({type(error).__name__}); "
        "run the same command to go on from its checkpoint"
    )


def worth_retrying(failures: Iterable[BaseException]) -> bool:
    """Whether the same work may succeed on a new worker: not after a mistake of the user's, which stays one."""
    error = ours(failures)
    return error is None or isinstance(error, ContractError | RetryableError)


def _within(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it wraps: Ray keeps them under several names."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if each in seen:
            continue
        seen.append(each)
        yield each
        held = [getattr(each, name, None) for name in ("_base_exc", "cause", "controller_failure", "__cause__")]
        waiting += [inner for inner in held if isinstance(inner, BaseException)]
