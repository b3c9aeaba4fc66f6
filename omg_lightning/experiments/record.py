"""The record of a run: code, machine, versions, command and time, in one JSON file in its folder."""

import json
import os
import platform
import re
import shlex
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omg_lightning.commit import commit_of
from omg_lightning.files import compact, replace_text
from omg_lightning.types import ConfigError

FILE = "run.json"  # in the folder of a run
PACKAGES = ("omg-lightning", "torch", "lightning", "numpy")


def shown(words: Sequence[str]) -> str:
    """Return a command line in the form that a user types."""
    return f"python -m omg_lightning {shlex.join(words)}"


def read(folder: Path) -> dict[str, Any]:
    """Return the record of a run, empty if it has none.

    Raises:
        ConfigError: the file is damaged or not a record.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): remove it, and the run resumes from its last.ckpt") from error
    if not isinstance(found, dict) or "steps" not in found:
        raise ConfigError(f"{path} is not the record of a run: choose another folder for the study with --out")
    return found


def write(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of a run."""
    replace_text(folder / FILE, compact(record))


@cache
def provenance() -> dict[str, Any]:
    """Return the commit of the code, the machine and the versions of relevant packages."""
    return {"commit": commit_of(), "machine": _machine(), "versions": _versions()}


def _machine() -> dict[str, Any]:
    """Return processor, cores, memory and system, but not the machine's name."""
    processor = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        processor = found[1] if found else processor
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    system = f"{platform.system()} {platform.release()}"
    return {"processor": processor, "cores": cores(), "memory_gib": round(memory / 2**30, 1), "system": system}


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout that is not installed
            continue
    return found
