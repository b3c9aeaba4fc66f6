"""The file of a whole study, `study.json`: the records of its runs in one place."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omg_lightning.experiments import record as records
from omg_lightning.experiments.plan import Study
from omg_lightning.files import compact, replace_text
from omg_lightning.types import ConfigError

FILE = "study.json"


def gather(study: Study) -> None:
    """Write `study.json` from the existing records of all runs."""
    kept = [(run, record) for run in study.runs if (record := records.read(run.folder))]
    found: dict[str, Any] = {
        "study": study.name,
        "file": str(study.file),
        "groups": {name: [list(cell) for cell in cells] for name, cells in study.groups.items()},
        "planned": [[run.game, run.method, run.seed] for run in study.runs],
        "runs": [
            {"run": run.number, "folder": str(run.folder.relative_to(study.folder)), **each} for run, each in kept
        ],
    }
    found |= {"targets": dict(study.targets)} if study.targets else {}
    replace_text(study.folder / FILE, compact(found))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a study's folder.

    Raises:
        ConfigError: another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} ({error.strerror}): choose another folder with --out") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder} has a running study: wait for its end, or choose another --out") from None
        yield
