"""What all tests share: one thread (small tensors gain nothing from two) and a few small things to test with."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
