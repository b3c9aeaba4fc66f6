"""The parser that all commands share."""

import argparse
from typing import NoReturn

from omg_lightning.types import ConfigError


class CommandParser(argparse.ArgumentParser):
    """Parses the options of one command; a mistake raises ConfigError.

    Args:
        name: name of the command.
        manual: text of `--help` below the usage: the docstring of the command's module.
        usage: the arguments, if argparse does not know them.
    """

    def __init__(self, name: str, manual: str | None, usage: str | None = None) -> None:
        prog = f"python -m omg_lightning {name}"
        super().__init__(
            prog,
            None if usage is None else f"{prog} {usage}",
            manual,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with argparse's message."""
        raise ConfigError(f"{message}; see {self.prog} --help")
