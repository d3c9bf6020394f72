from engine.errors import ConfigError, ContractError, RetryableError
from engine.training.failures import ours, stopped, worth_retrying


class Wrapped(Exception):
    def __init__(self, inner):
        self._base_exc = inner


class WorkerGroupError(Exception):
    def __init__(self, failures):
        self.worker_failures = failures


class ControllerError(Exception):
    def __init__(self, inner):
        self.controller_failure = inner


def test_the_users_mistake_counts_before_what_it_drags_along():
    mistake, bug = ConfigError("no such column"), ContractError("training raised RuntimeError at loop.py:1")
    assert ours([Wrapped(bug), Wrapped(mistake)]) is mistake
    assert stopped(WorkerGroupError({0: Wrapped(bug), 1: mistake})) is mistake
    assert not worth_retrying([bug, mistake])


def test_a_lost_worker_is_worth_another_try_whatever_the_others_say():
    failures = [OSError("the actor died"), Wrapped(ContractError("training raised RuntimeError at loop.py:1"))]
    assert ours(failures) is None
    assert worth_retrying(failures)
    told = stopped(WorkerGroupError(dict(enumerate(failures))))
    assert isinstance(told, RetryableError) and "WorkerGroupError" in str(told)


def test_what_the_controller_stopped_with_is_found_again():
    mistake = ConfigError("no such column")
    assert stopped(ControllerError(mistake)) is mistake
    assert stopped(ControllerError(ControllerError(Wrapped(mistake)))) is mistake
    assert isinstance(stopped(ControllerError(ValueError("a report's words"))), RetryableError)
