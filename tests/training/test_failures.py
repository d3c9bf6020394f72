from engine.errors import ConfigError, ContractError, RetryableError
from engine.training.failures import engine_error, training_error, worth_retrying


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
    assert engine_error([Wrapped(bug), Wrapped(mistake)]) is mistake
    assert training_error(WorkerGroupError({0: Wrapped(bug), 1: mistake})) is mistake
    assert not worth_retrying([bug, mistake])


def test_a_lost_worker_is_worth_another_try_whatever_the_others_say():
    failures = [OSError("the actor died"), Wrapped(ContractError("training raised RuntimeError at loop.py:1"))]
    assert engine_error(failures) is None
    assert worth_retrying(failures)
    message = training_error(WorkerGroupError(dict(enumerate(failures))))
    assert isinstance(message, RetryableError) and "WorkerGroupError" in str(message)


def test_what_the_controller_stopped_with_is_found_again():
    mistake = ConfigError("no such column")
    assert training_error(ControllerError(mistake)) is mistake
    assert training_error(ControllerError(ControllerError(Wrapped(mistake)))) is mistake
    assert isinstance(training_error(ControllerError(ValueError("a report's words"))), RetryableError)
