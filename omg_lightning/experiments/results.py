"""The file of a whole study, `study.json`: the records of its runs in one place."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omg_lightning.experiments.plan import Cell, Run, Study
from omg_lightning.experiments.record import read
from omg_lightning.experiments.runner import DONE
from omg_lightning.files import compact, replace_text
from omg_lightning.types import ConfigError

FILE = "study.json"
PLACE = ("run", "folder")  # of a run in this study


def records_of(study: Study) -> dict[Run, dict[str, Any]]:
    """Return the record of each run that has one: in its folder, or else a finished one in `study.json`.

    So this file is all that a study needs to go on elsewhere.

    Raises:
        ConfigError: a file is damaged.
    """
    kept = _kept(study.folder / FILE)
    either = {run: read(run.folder) or kept.get((run.game, run.method, run.seed)) for run in study.runs}
    return {run: record for run, record in either.items() if record}


def gather(study: Study) -> None:
    """Write `study.json` from the existing records of all runs."""
    content: dict[str, Any] = {
        "study": study.name,
        "file": str(study.file),
        "groups": {name: [list(cell) for cell in cells] for name, cells in study.groups.items()},
        "planned": [[run.game, run.method, run.seed] for run in study.runs],
        "runs": [
            {"run": run.number, "folder": str(run.folder.relative_to(study.folder)), **record}
            for run, record in records_of(study).items()
        ],
    }
    content |= {"targets": dict(study.targets)} if study.targets else {}
    replace_text(study.folder / FILE, compact(content))


def _kept(path: Path) -> dict[Cell, dict[str, Any]]:
    """Return the records of finished runs in a `study.json`; none if it does not exist."""
    found = {}
    try:
        for each in json.loads(path.read_text())["runs"]:
            if each["state"] == DONE:
                record = {key: value for key, value in each.items() if key not in PLACE}
                if lacking := {"fingerprint", "steps", "numbers"} - record.keys():
                    raise KeyError(min(lacking))
                found[record["game"], record["method"], record["seed"]] = record
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError) as error:
        cure = "restore it, or remove it if the runs' folders exist"
        raise ConfigError(f"{path} is damaged ({error!r}): {cure}") from error
    return found


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
