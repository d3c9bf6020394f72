"""The sign of life: what tells a run that is being worked on from one whose driver died."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from engine.errors import RetryableError
from engine.pipeline import alive, attempts, run, status
from engine.pipeline.alive import SignOfLife, last_sign
from engine.pipeline.layout import Layout
from engine.storage import LocalStorage
from tests.pipeline.conftest import assert_once, config, texts, write_input
from tests.pipeline.drivers import ended, start


def until(what: Callable[[], object], seconds: float = 200) -> None:
    """Waits until something is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(str(tmp_path / "out"))


def leave(layout: Layout, driver: str, seconds: float, waits: str | None = None) -> None:
    """A sign of life of some seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    LocalStorage().create(layout.driver(driver), json.dumps({"at": at.isoformat(), "waits": waits}).encode())


def test_it_is_given_at_once_and_again_and_gone_at_the_end(layout, monkeypatch):
    monkeypatch.setattr(alive, "BEAT", 0.02)
    storage = LocalStorage()
    with SignOfLife(storage, layout, "d", lambda: "starting Ray"):
        assert last_sign(storage, layout).alive
        until(lambda: last_sign(storage, layout).waits == "starting Ray")
        text = storage.read(layout.driver("d")).decode()
    assert last_sign(storage, layout) is None
    assert json.loads(text).keys() == {"at", "waits"}
    assert "sign-of-life" not in [thread.name for thread in threading.enumerate()]


def test_a_sign_that_cannot_be_given_is_logged_and_the_next_one_is_tried(layout, monkeypatch, caplog):
    class Moody(LocalStorage):
        calls = 0

        def writer(self, path):
            self.calls += 1
            if self.calls == 2:
                raise RetryableError("no space left")
            return super().writer(path)

    monkeypatch.setattr(alive, "BEAT", 0.02)
    caplog.set_level("INFO")
    storage = Moody()
    with SignOfLife(storage, layout, "d", lambda: "starting Ray"):
        until(lambda: (sign := last_sign(storage, layout)) and sign.waits)
    assert [json.loads(record.message)["event"] for record in caplog.records] == ["no_sign_of_life"]
    # A warning would come out on stderr, raw and within the bar.
    assert {record.levelname for record in caplog.records} == {"INFO"}


class Stuck(LocalStorage):
    """A store that fails from some moment on, and takes its time for it."""

    def __init__(self) -> None:
        self.fails, self.removed = threading.Event(), []

    def writer(self, path):
        if self.fails.is_set():
            time.sleep(0.4)
            raise RetryableError("the store does not answer")
        return super().writer(path)

    def remove(self, path):
        self.removed.append(path)
        if self.fails.is_set():
            raise RetryableError("the store does not answer")
        super().remove(path)


def test_a_store_that_fails_is_not_asked_again_at_the_end(layout, caplog):
    caplog.set_level("INFO")
    storage = Stuck()
    with pytest.raises(RetryableError, match="the run"), SignOfLife(storage, layout, "d", lambda: None):
        raise RetryableError("the run's own")
    assert storage.removed == [] and last_sign(storage, layout).alive
    assert [(record.levelname, json.loads(record.message)) for record in caplog.records] == [
        ("INFO", {"event": "sign_of_life_left"})
    ]


def test_a_sign_that_is_being_written_is_not_waited_for_without_end(layout, monkeypatch, caplog):
    monkeypatch.setattr(alive, "BEAT", 0.01)
    monkeypatch.setattr(alive, "_PATIENCE", 0.01)
    caplog.set_level("INFO")
    storage, looks = Stuck(), threading.Event()

    def look():
        storage.fails.set()
        looks.set()

    sign = SignOfLife(storage, layout, "d", look)
    with sign:
        assert looks.wait(20)
    assert sign._thread.is_alive() and storage.removed == []
    assert json.loads(caplog.records[0].message) == {"event": "sign_of_life_left"}
    sign._thread.join()


def test_a_sign_that_cannot_be_removed_is_logged(layout, caplog):
    caplog.set_level("INFO")
    storage = Stuck()
    with SignOfLife(storage, layout, "d", lambda: None):
        storage.fails.set()
    (record,) = caplog.records
    assert (record.levelname, json.loads(record.message)["error"]) == ("INFO", "RetryableError")


def test_the_youngest_sign_counts_and_what_is_none_does_not(layout):
    leave(layout, "old", 500, "starting Ray")
    leave(layout, "young", 20)
    storage = LocalStorage()
    for name, text in {"torn": b'{"at": "20', "other": b"[]", "when": b'{"at": "noon", "waits": null}'}.items():
        storage.create(layout.driver(name), text)
    sign = last_sign(storage, layout)
    assert 20 <= sign.age < 40 and sign.waits is None and sign.alive
    storage.remove(layout.driver("young"))
    assert last_sign(storage, layout).age >= 500 and not last_sign(storage, layout).alive


def test_a_clock_that_is_behind_sees_no_negative_age(layout):
    leave(layout, "ahead", -5)
    assert last_sign(LocalStorage(), layout).age == 0 and last_sign(LocalStorage(), layout).alive


def test_a_killed_driver_whose_clock_was_ahead_does_not_stay_alive(layout):
    leave(layout, "ahead", -5000, "starting Ray")
    assert last_sign(LocalStorage(), layout).age == 0 and not last_sign(LocalStorage(), layout).alive
    leave(layout, "young", 20)
    assert last_sign(LocalStorage(), layout).waits is None and last_sign(LocalStorage(), layout).alive


def test_a_model_that_works_shows_by_its_own_drivers_marker_on_a_shard_that_is_not_done(layout):
    storage = LocalStorage()
    attempts.begin(storage, layout, "0000-000001", attempts.MODEL, "dead", 3)
    attempts.begin(storage, layout, "0000-000002", attempts.READ, "d", 3)
    attempts.begin(storage, layout, "0000-000009", attempts.MODEL, "d", 3)
    todo = {"0000-000001", "0000-000002"}
    assert not attempts.reached(storage, layout, attempts.MODEL, todo, "d")
    attempts.begin(storage, layout, "0000-000001", attempts.MODEL, "d", 3)
    assert attempts.reached(storage, layout, attempts.MODEL, todo, "d")


@pytest.mark.timeout(500)
def test_a_run_is_running_then_left_by_a_killed_driver_then_finished(tmp_path, cluster, monkeypatch):
    write_input(tmp_path / "in" / "a.jsonl", texts(60))
    out = str(tmp_path / "out")
    order = {"input": str(tmp_path / "in"), "output": out}
    driver = start(cluster, **order, runtime={"pause": 0.3})
    until(lambda: list((tmp_path / "out").glob("_receipts/*.json")))
    found = status(out)
    assert found.running and not found.finished and found.last_sign < alive.SILENCE and found.last_shard is not None
    driver.send_signal(signal.SIGKILL)
    assert ended(driver)[0] == -signal.SIGKILL
    assert len(list((tmp_path / "out" / "_drivers").iterdir())) == 1
    # What is to be seen half a minute and more after its death.
    monkeypatch.setattr(alive, "SILENCE", 0.5)
    time.sleep(0.6)
    found = status(out)
    assert not found.running and found.last_sign >= 0.6
    run(config(tmp_path / "in", out))
    found = status(out)
    assert (found.finished, found.running, found.last_sign) == (True, False, None)
    assert list((tmp_path / "out" / "_drivers").iterdir()) == []
    assert_once(tmp_path / "out", list(texts(60)))


def test_a_sign_left_by_a_driver_that_died_while_it_cleaned_up_is_removed_by_the_next_call(bench):
    one = bench()
    one.code()
    one.publish()
    leave(one.layout, "dead", 5)
    run(one.config)
    assert list(one.storage.list(one.layout.drivers)) == []


def test_a_run_that_breaks_off_leaves_no_sign(bench, monkeypatch):
    one = bench()
    signs = []

    def broken(*_):
        signs.extend(one.storage.list(one.layout.drivers))
        raise ZeroDivisionError

    # The package has the function under the module's name.
    monkeypatch.setattr(sys.modules["engine.pipeline.run"]._Driver, "code", broken)
    with pytest.raises(ZeroDivisionError):
        run(one.config)
    assert len(signs) == 1
    assert list(one.storage.list(one.layout.drivers)) == []
