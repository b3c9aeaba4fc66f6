"""The file of a whole study, `study.json`: the records of its runs in one place."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omg_lightning.experiments.plan import Run, Study
from omg_lightning.experiments.record import read
from omg_lightning.experiments.runner import DONE
from omg_lightning.files import compact, replace_text
from omg_lightning.types import ConfigError

FILE = "study.json"
PLACE = ("run", "folder")  # of a run in this study


def found(study: Study) -> dict[Run, dict[str, Any]]:
    """Return the record of each run that has one: in its folder, or else a finished one in `study.json`.

    So this file is all that a study needs to go on elsewhere.

    Raises:
        ConfigError: a file is damaged.
    """
    whole = _whole(study.folder / FILE)
    kept = {(each["game"], each["method"], each["seed"]): each for each in whole if each["state"] == DONE}
    records = {}
    for run in study.runs:
        cell = kept.get((run.game, run.method, run.seed), {})
        record = read(run.folder) or {key: value for key, value in cell.items() if key not in PLACE}
        if record:
            records[run] = record
    return records


def gather(study: Study) -> None:
    """Write `study.json` from the existing records of all runs."""
    records: dict[str, Any] = {
        "study": study.name,
        "file": str(study.file),
        "groups": {name: [list(cell) for cell in cells] for name, cells in study.groups.items()},
        "planned": [[run.game, run.method, run.seed] for run in study.runs],
        "runs": [
            {"run": run.number, "folder": str(run.folder.relative_to(study.folder)), **each}
            for run, each in found(study).items()
        ],
    }
    records |= {"targets": dict(study.targets)} if study.targets else {}
    replace_text(study.folder / FILE, compact(records))


def _whole(path: Path) -> list[dict[str, Any]]:
    """Return the records in a `study.json`; none if it does not exist."""
    try:
        return list(json.loads(path.read_text())["runs"])
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged ({error}): restore it, or remove it if the runs' folders exist"
        ) from error


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
