"""Ranks: processes that train the same weights, and their communication. A single process communicates nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from omg_lightning import interrupts

Value = TypeVar("Value")


class _Group:
    """The process group for Python objects: always on the CPU, even if tensors are exchanged between GPUs."""

    objects: dist.ProcessGroup | None = None
    node, local = 0, 0  # index of the machine, and of this process on it


def connect(node: int, local: int) -> None:
    """Prepare the communication; all ranks call it once the default process group of PyTorch exists.

    Args:
        node: index of this process's machine.
        local: index of this process on its machine.
    """
    _Group.node, _Group.local = node, local
    if size() > 1 and dist.get_backend() != "gloo" and _Group.objects is None:
        _Group.objects = dist.new_group(backend="gloo")


def leave() -> None:
    """Leave the process group: from now on this process is alone."""
    _Group.objects, _Group.node, _Group.local = None, 0, 0
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def size() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this rank, 0 to size - 1."""
    return dist.get_rank() if size() > 1 else 0


def leads() -> bool:
    """Return whether this is the first rank of its node, which prints messages."""
    return _Group.local == 0


def stream() -> int | None:
    """Return the rank for random streams, see `omg_lightning.seeds`; None for a single process."""
    return rank() if size() > 1 else None


def rows(total: int) -> Tensor:
    """Return this rank's indices of `total` rows, int64; the first ranks get one more if there is a remainder."""
    return torch.arange(total).tensor_split(size())[rank()]


def gather(value: Value) -> list[Value]:
    """Return the value of each rank, in order; a collective, as all functions below: every rank has to call it."""
    if size() == 1:
        return [value]
    found: list[Any] = [None] * size()
    dist.all_gather_object(found, value, group=_Group.objects)
    return found


def mean(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Return the means of named numbers over the ranks that have them: the same names and values on all ranks."""
    if size() == 1:
        return dict(numbers)
    found = gather({name: float(value) for name, value in numbers.items()})
    names = dict.fromkeys(name for each in found for name in each)
    parts = {name: [each[name] for each in found if name in each] for name in names}
    return {name: sum(values) / len(values) for name, values in parts.items()}


def first(value: Value) -> Value:
    """Return the value of rank 0."""
    return gather(value)[0]


@contextmanager
def together() -> Iterator[None]:
    """Do a piece of work on all ranks. If a signal interrupts it on one rank, interrupt it on all.

    Raises:
        Interrupted: a signal asks the program to end; at this same place on all ranks.
    """
    signum = 0
    try:
        yield
    except interrupts.Interrupted as stop:
        if size() == 1:
            raise
        signum = int(stop.signal)
    if size() == 1:
        return
    received = torch.zeros(size(), dtype=torch.int64)
    received[rank()] = signum or interrupts.received() or 0
    dist.all_reduce(received, op=dist.ReduceOp.MAX, group=_Group.objects)
    if received.any():
        agreed = int(received[received > 0][0])
        interrupts.receive(agreed)
        raise interrupts.Interrupted(agreed)


def merge(state: dict[str, Any]) -> dict[str, Any]:
    """Return rank 0's state for a checkpoint, with those of the other ranks under `others`; see `own`."""
    if size() == 1:
        return state
    states = gather(state)
    return {**states[0], "others": states[1:]}


def own(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return this rank's state from the result of `merge`; in a checkpoint of fewer ranks, that of rank 0."""
    others = state.get("others", [])
    return dict(state if rank() == 0 or len(others) < rank() else others[rank() - 1])


def align(weights: Mapping[str, Tensor]) -> str | None:
    """Overwrite weights with those of rank 0; they may differ by rounding only.

    Processors of different kinds round differently, and a run must not drift apart.

    Returns:
        None; or the name of a weight that differs by more on some rank, in which case no weight is overwritten.
    """
    if size() == 1:
        return None
    theirs = {name: weight.detach().clone() for name, weight in weights.items()}
    copy_first(theirs.values())
    differ = [name for name, weight in weights.items() if not torch.allclose(weight, theirs[name], 1e-3, 1e-5)]
    if found := [name for each in gather(differ) for name in each]:
        return found[0]
    for name, weight in weights.items():
        weight.detach().copy_(theirs[name])
    return None


def average_gradients(weights: Iterable[Tensor]) -> None:
    """Average the gradients of `weights` over ranks, in place.

    A rank without a gradient counts as a gradient of 0. If no rank has a gradient, there is none afterwards. So the
    result does not depend on which rank computes which loss.
    """
    weights = list(weights)
    if size() == 1 or not weights:
        return
    there = weights[0].new_tensor([float(weight.grad is not None) for weight in weights])
    parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    flat = torch.cat([there, *(part.reshape(-1).to(there.dtype) for part in parts)])
    dist.all_reduce(flat)
    there, *values = flat.split([len(weights), *(weight.numel() for weight in weights)])
    for weight, known, value in zip(weights, there.tolist(), values, strict=True):
        weight.grad = (value / size()).view_as(weight).to(weight.dtype) if known else None


def copy_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of rank 0."""
    if size() == 1:
        return
    for tensor in tensors:
        dist.broadcast(tensor, 0)


def only_first(speak: Callable[[], None]) -> None:
    """Call `speak` only on the first rank of each node that gets here: for an error that all ranks may raise."""
    if size() > 1:
        try:
            store = dist.distributed_c10d._get_default_store()
            if store.add(f"omg_lightning/spoken/{_Group.node}", 1) > 1:
                return
        except RuntimeError:  # rank 0, which keeps the store, is gone
            pass
    speak()


def lost(error: BaseException) -> bool:
    """Return whether an error means that another rank has gone, or did not answer in time."""
    if size() == 1 or not isinstance(error, RuntimeError):
        return False
    words: Sequence[str] = ("gloo", "NCCL", "Connection", "connection", "Timed out", "socket")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)
