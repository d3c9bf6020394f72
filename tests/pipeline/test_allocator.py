import subprocess
import sys

import pytest

from engine.pipeline import allocator

GROWN = """
import resource, sys
import numpy as np
from engine.pipeline.allocator import give_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

blocks = [np.ones(2**17) for _ in range(200)]
last = np.ones(2**17)
full = resident()
del blocks
kept = resident()
give_back()
print(full - kept, full - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_the_actors_settings_keep_is_given_back():
    made = subprocess.run(
        [sys.executable, "-c", GROWN], env={"PATH": "", **allocator.ENVIRONMENT}, capture_output=True, text=True, timeout=60
    )
    kept, given = map(int, made.stdout.split())
    assert kept < 20 and given > 180
