"""What the tests of the documentation share: code blocks of a page, and the folder of a user who types them in."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page below docs/, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def file_name(block: str) -> str | None:
    """The file that a block is to be saved as: its first comment line names it."""
    found = re.search(r"\A(?:#!.*\n)?# (\S+\.(?:py|yaml|sh))\n", block)
    return found and found[1]


def write_files(page: str, folder: Path) -> None:
    """Write every block that names a file into the user's folder."""
    for language in ("python", "yaml", "bash"):
        for block in blocks(page, language):
            if name := file_name(block):
                (folder / name).write_text(block, encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """The commands of the bash blocks that are no scripts, as words."""
    lines = [line for block in blocks(page, "bash") if not file_name(block) for line in joined(block).splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def joined(text: str) -> str:
    """A text with lines that end in a backslash joined to the next ones."""
    return re.sub(r"\\\n\s*", "", text)


def run_page(page: str, folder: Path) -> dict[str, str]:
    """Run the commands of a page as they stand, in order, in processes of their own; returns what each printed."""
    write_files(page, folder)
    printed = {}
    for words in commands(page):
        assert words[0] == "python", f"a reader's shell may not have {words[0]}"
        done = subprocess.run([sys.executable, *words[1:]], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr}"
        printed[" ".join(words)] = done.stdout
    return printed
