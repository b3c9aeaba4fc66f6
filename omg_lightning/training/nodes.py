"""How processes connect, and how nodes notice that another node has received a signal, has ended or is silent."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout

from omg_lightning import interrupts
from omg_lightning.types import ConfigError

WATCH = 0.2  # seconds between two polls of other processes
BEAT = 1.0  # seconds between two heartbeats
CONNECT = 5.0  # seconds for a connection to the store
SILENCE = 30  # missed heartbeats after which a node counts as lost
OVER, FAILED = "over", "failed"  # the last heartbeat of a node


class Place(NamedTuple):
    """The address at which processes connect, and the rank of this one.

    Attributes:
        host: address of rank 0.
        port: port of rank 0.
        rank: of this process.
        size: number of processes.
    """

    host: str
    port: int
    rank: int
    size: int

    def key(self, rank: int) -> str:
        """Return the key of a rank in the store of all ranks."""
        return f"omg_lightning/rank/{rank}"

    def connect(self, keeps: bool, timeout: timedelta | None) -> dist.Store:
        """Return a new connection to the store of all ranks.

        Args:
            keeps: whether this process hosts the store.
            timeout: of its operations.

        Raises:
            DistNetworkError: the store does not exist yet, or the port is in use.
        """
        store = dist.TCPStore(self.host, self.port, self.size, keeps, timedelta(seconds=CONNECT), False)
        store.set_timeout(timeout or default_pg_timeout)
        return dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)

    def meet(self, seconds: float, patience: float, timeout: timedelta | None) -> dist.Store:
        """Return the store of all ranks, once each rank has connected; handle signals in the meantime.

        Args:
            seconds: to wait, as set by the user.
            patience: seconds to wait beyond these.
            timeout: of later operations.

        Raises:
            ConfigError: some processes did not connect in time.
        """
        end = time.monotonic() + seconds + patience
        keeps = self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        store: dist.Store | None = None
        while True:
            interrupts.check()
            why = "some did not connect"
            try:
                if store is None:
                    store = self.connect(keeps, timeout)
                    store.set(self.key(self.rank), "")
                if store.check([self.key(rank) for rank in range(self.size)]):
                    return store
            except dist.DistNetworkError as error:
                why = short(error)
            if time.monotonic() > end:
                raise ConfigError(
                    f"{self.size} processes did not all connect at {self.host}:{self.port} within {seconds:g} s "
                    f"({why}): start the same command on each of --trainer.num_nodes nodes, with MASTER_ADDR, "
                    "MASTER_PORT and NODE_RANK set, or raise --join_seconds"
                )
            time.sleep(WATCH)


class Pulse:
    """Heartbeats of this node, and a watch over those of the others.

    Each node writes one value into the store of all ranks: a count, and the signal that it has received, or how it has
    ended. There are two threads, because an operation on a lost store may block for long, and must not stop the watch.

    Args:
        place: address of the store.
        others: one rank of each other node, with the node's name in messages.
        tell: forwards a signal of another node to the processes of this node.
        lose: ends this process with the given message, because another node has ended or is silent.
    """

    def __init__(
        self, place: Place, others: Mapping[int, str], tell: Callable[[], None], lose: Callable[[str], None]
    ) -> None:
        self._place, self._others, self._tell, self._lose = place, dict(others), tell, lose
        self._end: str | None = None  # how this process ends
        self._heard = dict.fromkeys(others, "")
        self._silent = dict.fromkeys(others, 0)  # missed heartbeats
        self._gone: str | None = None  # why the store cannot be reached
        self._sent, self._wake = threading.Event(), threading.Event()
        self._over = False  # the other nodes know that this one has ended
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._exchange, self._watch)]
        for thread in self._threads:
            thread.start()

    def leave(self, fine: bool) -> None:
        """Tell the other nodes that this process ends; if it hosts the store, wait until they know.

        Args:
            fine: whether it ends without an error.
        """
        self._end, end = OVER if fine else FAILED, time.monotonic() + 5 * BEAT
        self._wake.set()
        while time.monotonic() < end and self._gone is None:
            ended = all(_word(value) in (OVER, FAILED) for value in self._heard.values())
            if self._sent.is_set() and (ended or self._place.rank):
                break
            time.sleep(WATCH / 4)
        self._over = True
        for thread in self._threads:  # Python's exit would abort a thread that is inside PyTorch
            thread.join(CONNECT + BEAT)

    def lost(self) -> str | None:
        """Return a message about a node that cannot continue, with advice; or None."""
        what = self._lost()
        return what and f"{what}, so all have ended: check the output of each node, and resume from last.ckpt"

    def _exchange(self) -> None:
        """Write the value of this node, and read those of the others, at every heartbeat."""
        keys, beats = [self._place.key(rank) for rank in self._others], 0
        try:
            store = self._place.connect(False, timedelta(seconds=SILENCE * BEAT))
            while not self._over:
                word, beats = self._end or str(int(interrupts.received() or 0)), beats + 1
                store.set(self._place.key(self._place.rank), f"{beats} {word}")
                for rank, value in zip(self._others, store.multi_get(keys), strict=True):
                    if (new := value.decode()) != self._heard[rank]:
                        self._heard[rank], self._silent[rank] = new, 0
                if word in (OVER, FAILED):
                    self._sent.set()
                    time.sleep(WATCH)
                else:
                    self._wake.wait(BEAT)
        except RuntimeError as error:  # of torch.distributed
            self._gone = short(error)

    def _watch(self) -> None:
        """Receive signals of other nodes, and end this process when another node has ended."""
        while self._end is None:
            time.sleep(BEAT)
            for rank in self._others:
                self._silent[rank] += 1
                if (word := _word(self._heard[rank])).isdigit() and int(word) and interrupts.received() is None:
                    interrupts.receive(int(word))
                    self._tell()
            if (what := self.lost()) is not None and self._end is None:
                self._lose(what)
                return

    def _lost(self) -> str | None:
        """Return a message about a node that cannot continue, or None."""
        words = {rank: _word(value) for rank, value in self._heard.items()}
        if failed := [self._others[rank] for rank, word in words.items() if word == FAILED]:
            return f"{failed[0]} ended with an error"
        if self._gone is not None:
            name = self._others.get(0, "what started the processes")
            return None if words.get(0) == OVER else f"{name} has ended or cannot be reached ({self._gone})"
        silent = [rank for rank, beats in self._silent.items() if beats > SILENCE and words[rank] != OVER]
        return f"{self._others[silent[0]]} has not answered for {SILENCE * BEAT:g} s" if silent else None


def _word(value: str) -> str:
    return value.partition(" ")[2]


def short(error: BaseException) -> str:
    """Return the beginning of an error's text, in one line."""
    return " ".join(str(error).split())[:200]
