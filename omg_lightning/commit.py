"""The commit of this checkout, to record how a run was made."""

import subprocess
from functools import cache
from pathlib import Path


@cache
def commit_of() -> str | None:
    """Return the commit of this checkout at the first call, with `+` if files have changed since.

    Returns:
        None for an installation. Changes of the zoo do not count: they do not change what a run does.
    """
    here = Path(__file__).resolve().parent
    found = []
    changed = ["status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)omg_lightning/zoo"]
    for words in (["rev-parse", "--show-toplevel"], ["rev-parse", "HEAD"], changed):
        try:
            done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        found.append(done.stdout.strip())
    if Path(found[0]) != here.parent:  # the package is installed inside another project
        return None
    return found[1] + ("+" if found[2] else "")
