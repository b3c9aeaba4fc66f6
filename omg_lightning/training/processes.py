"""Several processes as one run: start, connection, shared training steps, end."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.overrides.distributed import _sync_module_states
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import Tensor
from torch.optim import Optimizer

from omg_lightning import interrupts, ranks
from omg_lightning.training.nodes import WATCH, Place, Pulse, short
from omg_lightning.types import ConfigError

JOIN_SECONDS = 180.0
GRACE = 20.0  # seconds to exit after another process has ended
PLACE = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")  # environment variables of a rank
MISTAKE = 2  # exit code of a process that has printed a user's mistake


class Processes(DDPStrategy):
    """Distributed data parallel training (`--trainer.devices 2`): on CPU cores or GPUs, also on several nodes.

    Gradients are averaged after the backward pass, instead of by PyTorch's wrapper: a rank's losses depend on
    its episodes, and the wrapper waits for ever if a rank has none. After each step all ranks have the
    buffers of rank 0, as with the wrapper.

    Args:
        settings: arguments of Lightning's strategy.

    Attributes:
        join_seconds: seconds to wait for the other processes at the start.
        threads: number of threads of each process, for tensor operations.
    """

    join_seconds: float = JOIN_SECONDS
    threads: int = 1

    def _configure_launcher(self) -> None:
        """Fork processes, instead of restarting the running script."""
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_distributed(self) -> None:
        """Connect to the other processes.

        Raises:
            ConfigError: some processes did not connect in time.
        """
        if dist.is_initialized():
            return
        torch.set_num_threads(self.threads)  # not earlier: a forked process does not inherit running threads
        reset_seed()
        self.set_world_ranks()
        self._process_group_backend = self._get_process_group_backend()
        assert self.cluster_environment is not None
        environment = self.cluster_environment
        place = Place(environment.main_address, environment.main_port, self.global_rank, self.world_size)
        # A forked process waits longer, so that its parent prints the error.
        store = place.meet(self.join_seconds, GRACE * _Family.forked, self._timeout)
        dist.init_process_group(
            self._process_group_backend,
            store=store,
            rank=self.global_rank,
            world_size=self.world_size,
            timeout=self._timeout,
            device_id=None if self.root_device.type == "cpu" else self.root_device,
        )
        _Family.joined = True
        ranks.connect(environment.node_rank(), self.local_rank)
        # Forked processes watch their parent and children. Any other process counts as a node of its own.
        step, name = (self.num_processes, "node") if _Family.placed else (1, "process")
        others = {rank: f"{name} {rank // step}" for rank in range(0, self.world_size, step)}
        others.pop(self.global_rank, None)
        if others and not _Family.forked:
            _Family.pulse = Pulse(place, others, _tell, _lose)

    def configure_ddp(self) -> None:
        """Start all ranks with the weights of rank 0."""
        assert self.model is not None
        _sync_module_states(self.model)

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any) -> Any:
        """Take a step with the gradients averaged over ranks."""
        assert self.lightning_module is not None
        weights = [weight for weight in self.lightning_module.parameters() if weight.requires_grad]

        def averaged() -> Any:
            found = closure()
            ranks.average_gradients(weights)
            return found

        output = super().optimizer_step(optimizer, averaged, model, **kwargs)
        kept: dict[str, Tensor] = self.lightning_module.state_dict()
        ranks.copy_first(kept[name] for name, _ in self.lightning_module.named_buffers() if name in kept)
        return output


class _Launcher(_SubprocessScriptLauncher):
    """Forks the other processes of this node, unless a launcher (`torchrun`, SLURM) starts them."""

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Fork at the first call; then call the function, in each process."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._fork()
        return function(*args, **kwargs)

    def _fork(self) -> None:
        """Fork a process for each other rank of this node; it continues like this one.

        Raises:
            ConfigError: this platform cannot fork, or this process already uses a GPU.
        """
        if not hasattr(os, "fork") or torch.cuda.is_initialized():
            raise ConfigError(
                "--trainer.devices above 1 needs to fork processes, as on Linux, before this one uses a GPU: "
                "start them with torchrun, or set --trainer.devices 1"
            )
        environment, parent = self.cluster_environment, os.getpid()
        place = (environment.main_address, environment.main_port, environment.node_rank(), 0)
        size = self.num_processes * self.num_nodes
        os.environ.update(zip(PLACE, map(str, (*place, size)), strict=True))
        _Family.placed = True
        sys.stdout.flush()
        for local in range(1, self.num_processes):
            if (pid := os.fork()) == 0:
                _Family.children, _Family.forked = [], True
                os.environ["LOCAL_RANK"] = str(local)
                interrupts.follow()
                threading.Thread(target=_watch_parent, args=(parent, local), daemon=True).start()
                return
            _Family.children.append(_Child(pid))
        if _Family.children:
            interrupts.pass_on(_tell)
            threading.Thread(target=_watch_children, args=(_Family.children,), daemon=True).start()


class _Child:
    """A child process, forked by this one.

    Args:
        pid: its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self._lock = threading.RLock()  # a signal handler may take it again

    def poll(self) -> int | None:
        """Return its exit code, or minus the number of the signal that killed it; None while it runs."""
        with self._lock:
            if self.code is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.code = os.waitstatus_to_exitcode(status) if pid else None
            return self.code

    def send(self, signum: int) -> None:
        """Send the process a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signum)


class _Family:
    """The child processes, rank 1 of this node first, and whether this process was forked itself."""

    children: ClassVar[list[_Child]] = []
    forked = False
    placed = False  # whether environment variables set the rank of this process
    joined = False  # whether it has connected to the others
    over = False  # this process is ending, so its children may end, too
    pulse: Pulse | None = None  # watches the other nodes
    run: ClassVar[object] = object()  # a new one for each run


def _tell() -> None:
    """Forward a signal to the children, as SIGTERM, because a second SIGINT would end them at once."""
    for child in _Family.children:
        child.send(signal.SIGTERM)


def _watch_children(children: list[_Child]) -> None:
    """End this process if a child has ended before it."""

    def needed() -> bool:
        return _Family.children is children and not _Family.over

    while needed():
        time.sleep(WATCH)
        if what := ended():
            _lose(what)
            return


def _lose(what: str) -> None:
    """End this process because another one has ended: at its next safe point, or after GRACE seconds."""
    run, end = _Family.run, time.monotonic() + GRACE
    interrupts.lose(what)
    while time.monotonic() < end:
        time.sleep(WATCH)
        if _Family.over or _Family.run is not run:
            return
    for child in _Family.children:  # this process is blocked and has reached no safe point
        child.send(signal.SIGKILL)
    if not mistaken():
        os.write(2, f"error: {what}\n".encode())
    os._exit(MISTAKE if mistaken() else 1)


def _watch_parent(parent: int, local: int) -> None:
    """End this process when its parent has died."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    if interrupts.received() is None and local == 1:
        os.write(2, b"error: the main process of this run was killed, so all have ended: resume from last.ckpt\n")
    os._exit(1)


def ended() -> str | None:
    """Return a message about a child that has ended too early; None if none has."""
    for local, child in enumerate(_Family.children, 1):
        code = child.poll()
        if code in (None, 0) or (interrupts.received() is not None and code > 0):
            continue
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return (
            f"process {local} of the {len(_Family.children) + 1} on this machine {how}, so all have ended: check the "
            "lines above and the memory, and resume from last.ckpt"
        )
    return None


def mistaken() -> bool:
    """Return whether a child has ended after it has printed a user's mistake."""
    return any(child.poll() == MISTAKE for child in _Family.children)


def blame(error: BaseException) -> str:
    """Return a message about the process whose loss caused `error`; wait until it is known."""
    pulse, end = _Family.pulse, time.monotonic() + GRACE / 2

    def known() -> str | None:
        return interrupts.lost() or ended() or (pulse.lost() if pulse is not None else None)

    while (_Family.children or pulse) and interrupts.received() is None and known() is None and time.monotonic() < end:
        time.sleep(WATCH)
    if _Family.forked:
        time.sleep(GRACE)  # the parent ends this process, and says why
    return known() or f"the processes of this run have lost each other ({short(error)}): resume from last.ckpt"


@contextmanager
def ends() -> Iterator[None]:
    """End all child processes with this one; in a forked process, exit here."""
    patience = 0.0
    try:
        yield
        patience = 60.0
    except SystemExit as stop:
        patience = 60.0 if stop.code in (0, None) else GRACE if interrupts.received() is not None else 0.0
        if _Family.forked:
            _leave(stop.code)
        raise
    finally:
        if _Family.forked:  # no error, or a bug of the program
            if patience == 0.0:
                traceback.print_exc()
            _leave(0 if patience else 1)
        _Family.over = True
        with interrupts.deferred():
            _wait(patience)


def _wait(seconds: float) -> None:
    """Wait for all children, kill those that take too long, and reap all of them."""
    end = time.monotonic() + seconds
    for child in _Family.children:
        while child.poll() is None and time.monotonic() < end:
            time.sleep(WATCH / 4)
        child.send(signal.SIGKILL)
        while child.poll() is None:
            time.sleep(WATCH / 4)
    if _Family.placed:
        for name in PLACE:
            os.environ.pop(name, None)
    if _Family.pulse is not None:
        _Family.pulse.leave(fine=seconds > 0)
    if _Family.joined:
        ranks.leave()
    _Family.children, _Family.placed, _Family.joined, _Family.over, _Family.pulse = [], False, False, False, None
    _Family.run = object()
    interrupts.alone()


def _leave(code: Any) -> None:
    """End a forked process without the parent's cleanup."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)
