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


SHAPES = """
import resource
import torch

torch.set_num_threads(1)
layers = [torch.nn.Linear(384, 1536, dtype=torch.bfloat16) for _ in range(2)]

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

def work(rows):
    with torch.inference_mode():
        for layer in layers:
            layer(torch.zeros(rows, 384, dtype=torch.bfloat16))

work(1000)
before = resident()
for rows in range(700, 900):
    work(rows)
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.long
def test_products_of_many_shapes_leave_nothing_behind():
    # With PyTorch's own settings this grows by hundreds of MiB where the processor multiplies bf16.
    made = subprocess.run(
        [sys.executable, "-c", SHAPES], env={"PATH": "", **allocator.ENVIRONMENT}, capture_output=True, text=True, timeout=90
    )
    assert made.returncode == 0, made.stderr[-500:]
    assert int(made.stdout) < 60
