"""Runs tests on an accelerator: `pytest --device cuda`.

Tensors and generators that the tests and `omg_lightning.testing` make, the parameters of networks, and data modules
without a trainer are on the device, and a Trainer that asks for the CPU gets the accelerator. What the library makes by
itself is not moved, so a constant that it keeps on the CPU makes a test fail. Tests about the CPU are skipped: those
that share work among processes, and those that break code on purpose, since CUDA cannot go on after a wrong index.
"""

import os
import sys
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.device_dtype_mixin import _DeviceDtypeModuleMixin
from lightning.pytorch.trainer.connectors import accelerator_connector
from torch.nn.modules import module as modules
from torch.overrides import TorchFunctionMode
from torchmetrics import Metric

from omg_lightning import testing
from omg_lightning.data import EpisodeDataModule
from omg_lightning.games import CoinGame, LevelBasedForaging, Overcooked, Snowdrift, StagHunt, checks
from omg_lightning.types import ConfigError

_TESTS = str(Path(__file__).parent), str(Path(testing.__file__).parent)
_GAMES = (StagHunt, Snowdrift, LevelBasedForaging, Overcooked, CoinGame)
_ABOUT_THE_CPU = (  # parts of the names of files and tests
    *("test_workers.py", "test_ranks.py", "test_nodes.py", "test_processes.py", "workers", "_processes_", "_fork"),
    *("test_check_game.py", "test_check_env.py", "_broken_", "_meta_"),
)
_MAKERS = {
    *(torch.tensor, torch.as_tensor, torch.zeros, torch.ones, torch.full, torch.empty, torch.arange, torch.eye),
    *(torch.linspace, torch.rand, torch.randn, torch.randint, torch.randperm),
}
_ON_THE_CPU = ("testing/envs.py", "slow_search.py")  # what they compute is not a part of the library
_broken: list[str] = []
_TO_NUMPY = {torch.Tensor.numpy, torch.Tensor.__array__}


def _from_a_test(depth: int) -> bool:
    name = sys._getframe(depth).f_code.co_filename
    return name.startswith(_TESTS) and not name.endswith(_ON_THE_CPU)


class _TestTensors(TorchFunctionMode):
    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _MAKERS and "device" not in kwargs and _from_a_test(2):
            generator = kwargs.get("generator")
            kwargs["device"] = self.device if generator is None else generator.device
        elif func in _TO_NUMPY and _from_a_test(2):
            args = (args[0].cpu(), *args[1:])
        return func(*args, **kwargs)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests about the CPU."""
    for item in items:
        if any(part in item.nodeid for part in _ABOUT_THE_CPU):
            item.add_marker(pytest.mark.skip(reason="about the CPU, see tests/on_device.py"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note that CUDA cannot go on in this process."""
    if report.failed and "device-side assert" in str(report.longrepr):
        _broken.append(report.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """Skip what asks for several processes, which an accelerator refuses."""
    try:
        return (yield)
    except ConfigError as error:
        if "with an accelerator set data.workers 1" in str(error):
            pytest.skip("needs the CPU")
        raise


def pytest_runtest_logfinish() -> None:
    """End a process in which CUDA cannot go on: pytest-xdist starts another."""
    if _broken:
        os._exit(1)


def move(device: str) -> None:
    """Move all that the tests make to `device`."""
    plain = torch.Generator

    class Kind(type):
        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, plain)

    class Generator(metaclass=Kind):
        def __new__(cls, where: Any = None) -> Any:
            return plain(where or (device if _from_a_test(2) else "cpu"))

    for game in _GAMES:
        game.place = partialmethod(game.place, device=device)
    own, unset, start = EpisodeDataModule.device.fget, checks.device_of, _DeviceDtypeModuleMixin.__init__
    checks.device_of = lambda generator: unset(torch.zeros(1, device=device) if generator is None else generator)

    def begin(self: Any, *args: Any, **options: Any) -> None:
        start(self, *args, **options)
        self._device = torch.zeros(0, device=device).device

    _DeviceDtypeModuleMixin.__init__ = begin
    EpisodeDataModule.device = property(lambda self: own(self) if self.trainer else torch.device(device))

    def moved(_: Any, __: str, value: Any) -> Any:
        if value is None or value.device.type == device:
            return None
        if isinstance(value, torch.nn.Parameter):
            return torch.nn.Parameter(value.data.to(device), value.requires_grad)
        return value.to(device)

    connector: Any = accelerator_connector._AcceleratorConnector
    build = connector.__init__

    def connect(self: Any, *args: Any, **options: Any) -> None:
        if options.get("accelerator") == "cpu" and options.get("devices") in ("auto", 1, "1"):
            options |= {"accelerator": "gpu", "devices": 1}
        build(self, *args, **options)

    add = Metric.add_state

    def add_state(self: Any, name: str, *args: Any, **options: Any) -> None:
        add(self, name, *args, **options)
        setattr(self, name, getattr(self, name).to(device))

    Metric.add_state = add_state
    torch.Generator = Generator  # type: ignore[misc]
    modules.register_module_parameter_registration_hook(moved)
    modules.register_module_buffer_registration_hook(moved)
    connector.__init__ = connect
    _TestTensors(device).__enter__()
