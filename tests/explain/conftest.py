import pytest
import torch

from engine.encoders import load_encoder
from tests.explain.toys import Transformer


@pytest.fixture(scope="session")
def transformer():
    return Transformer(load_encoder("tiny:bert", torch.float32, "eager"), scale=20.0)
