"""Peak memory, on processes whose size is known."""

import subprocess
import sys
from pathlib import Path

import psutil

from engine.benchmarks.memory import is_worker


def test_the_peak_is_seen_after_the_memory_is_gone():
    # In a process of its own: other tests of this one may have left workers of Ray behind.
    code = """
import time
from pathlib import Path
import psutil
from engine.benchmarks.memory import PeakMemory, size_of
with PeakMemory(interval=0.02) as memory:
    before = size_of(psutil.Process())
    held = bytearray(b"x") * (200 * 1024 * 1024)
    deadline = time.monotonic() + 20
    while memory.peak < before + 190 and time.monotonic() < deadline:
        time.sleep(0.01)
    del held
assert memory.peak == memory.driver and memory.workers == 0.0
assert 190 <= memory.peak - before <= 300
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_workers_are_told_by_their_title():
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    for title, counts in (("ray::Model", True), ("plain", False)):
        process = subprocess.Popen([title, "-c", code], executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            # Popen returns before the kernel has put the new title in place.
            assert process.stdout.readline() == b"up\n"
            assert is_worker(psutil.Process(process.pid)) is counts
        finally:
            process.communicate()
