"""The parser that all commands share."""

import argparse
from typing import NoReturn

from omg_lightning.types import ConfigError


class CommandParser(argparse.ArgumentParser):
    """Parses the options of one command; a mistake raises ConfigError.

    Args:
        name: of the command.
        manual: what `--help` shows below the usage: the docstring of the command's module.
        usage: the arguments, where argparse cannot know them.
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
        """Raise ConfigError with what argparse says of a mistake."""
        raise ConfigError(f"{message}; see {self.prog} --help")
