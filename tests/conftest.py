"""What all tests share: one thread (small tensors gain nothing from two) and a few small things to test with."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="run the tests on it, such as cuda; see tests/on_device.py")


def pytest_configure(config):
    if (device := config.getoption("device")) != "cpu":
        import on_device

        config.pluginmanager.register(on_device)
        on_device.move(device)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
