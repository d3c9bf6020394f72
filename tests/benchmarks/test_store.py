"""The S3 service of the benchmark."""

import importlib.util

import pytest

from engine.benchmarks import store
from engine.benchmarks.config import S3, BenchConfig
from engine.benchmarks.run import run
from engine.errors import ConfigError
from engine.models.base import ModelSpec
from engine.storage import s3_config, storage_for, use_s3


def test_a_service_that_counts_its_requests_and_ends_with_the_block(tmp_path, monkeypatch):
    for name, value in store.KEYS.items():
        monkeypatch.setenv(name, value)
    before = s3_config()
    try:
        with store.serving(tmp_path) as service:
            service.put("in/a.txt", b"text")
            use_s3(service.s3)
            requests = service.requests
            storage = storage_for(store.BUCKET)
            assert storage.read(f"{store.BUCKET}/in/a.txt") == b"text" and service.requests == requests + 1
            assert storage.read(f"{store.BUCKET}/none") is None and service.requests == requests + 2
            assert storage.probe(f"{store.BUCKET}/out")
        with pytest.raises(OSError, match="refused"):
            service.put("b.txt", b"")
    finally:
        use_s3(before)


def test_without_moto_it_is_refused_before_any_measurement(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "moto" else found(name))
    with pytest.raises(ConfigError, match=r"^bench\.parts: s3 needs the package moto; .* leave s3 out$"):
        next(run(BenchConfig(ModelSpec("none"), parts=("core", S3))))
