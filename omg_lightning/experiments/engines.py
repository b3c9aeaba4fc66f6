"""Engines that execute the runs of a study: local processes, Ray, or a SLURM cluster through submitit."""

import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from omg_lightning.experiments.plan import Run
from omg_lightning.experiments.record import cores
from omg_lightning.experiments.runner import BROKEN, Processes, execute
from omg_lightning.types import ConfigError

Records = Iterator[tuple[Run, dict[str, Any]]]  # of the runs in the order in which they end
Engine = Callable[[Sequence[Run], int | None, Mapping[str, Any], Path], Records]
_SECONDS = 0.5  # between two polls of a cluster


def local(runs: Sequence[Run], jobs: int | None, options: Mapping[str, Any], folder: Path) -> Records:
    """Execute runs on this machine, `jobs` at once; by default one per core."""
    if options:
        raise ConfigError(f"--option {next(iter(options))} needs --engine ray or slurm: use --jobs for --engine local")
    count = min(jobs or cores(), max(1, len(runs)))
    processes, threads = Processes(), max(1, cores() // count)
    with ThreadPoolExecutor(count) as pool:  # each thread waits for a process
        futures = {pool.submit(execute, run, threads, processes): run for run in runs}
        try:
            for future in as_completed(futures):
                yield futures[future], _outcome(future.result)
        finally:
            for future in futures:
                future.cancel()
            processes.end()


def ray(runs: Sequence[Run], jobs: int | None, options: Mapping[str, Any], folder: Path) -> Records:
    """Execute runs with Ray, on the cluster of `RAY_ADDRESS` if it is set; `options` are those of `ray.remote`."""
    library = extra("ray", "--engine ray")
    handler = signal.getsignal(signal.SIGTERM)
    size = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": jobs or cores()}
    library.init(include_dashboard=False, log_to_driver=False, **size)
    signal.signal(signal.SIGTERM, handler)  # Ray replaces the handler, and would exit without ending the runs
    task = library.remote(_elsewhere).options(**{"num_cpus": 1, "max_retries": 0, **options})
    left = {task.remote(run, os.getcwd()): run for run in runs}
    try:
        while left:
            (done, *_), _ = library.wait(list(left))
            run = left.pop(done)
            yield run, _outcome(partial(library.get, done))
    finally:
        for reference in left:
            library.cancel(reference)  # interrupts the worker, which ends its command
        if left:
            library.wait(list(left), num_returns=len(left), timeout=60)
        library.shutdown()


def slurm(runs: Sequence[Run], jobs: int | None, options: Mapping[str, Any], folder: Path) -> Records:
    """Execute runs as an array of SLURM jobs, at most `jobs` at once; `options` are those of submitit's executor."""
    library = extra("submitit", "--engine slurm")
    parameters = dict(options)
    try:
        executor = library.AutoExecutor(folder / "slurm", cluster=parameters.pop("cluster", "slurm"))
        if executor.cluster == "slurm":
            parameters = {"name": folder.name, **({"slurm_array_parallelism": jobs} if jobs else {}), **parameters}
        executor.update_parameters(**parameters)
        left = dict(zip(executor.map_array(_elsewhere, runs, [os.getcwd()] * len(runs)), runs, strict=True))
    except (RuntimeError, ValueError, TypeError, NameError) as error:
        raise ConfigError(f"--engine slurm: {' '.join(str(error).split())}") from error
    try:
        while left:
            if not (done := [job for job in left if job.done()]):
                time.sleep(_SECONDS)
            for job in done:
                yield left.pop(job), _outcome(job.result)
    finally:
        for job in left:
            job.cancel()


ENGINES: dict[str, Engine] = {"local": local, "ray": ray, "slurm": slurm}


def extra(name: str, wanted_by: str) -> Any:
    """Import a package of the extra `study`.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{wanted_by} needs the package {name}, which is not installed: pip install 'omg-lightning[study]'"
        ) from error


def _outcome(result: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the record of a run; an error outside of its commands is recorded, and stops no other run."""
    try:
        return result()
    except Exception as error:
        return {"state": BROKEN, "error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _elsewhere(run: Run, cwd: str) -> dict[str, Any]:
    """Execute a run in a process on another machine or in another folder."""
    os.chdir(cwd)
    return execute(run)
