"""Parsing of the command line and of configuration files: stricter than jsonargparse, with errors of one line."""

import argparse
import os
from typing import Any

from jsonargparse import DefaultHelpFormatter, Namespace
from lightning.pytorch.cli import LightningArgumentParser

from omg_lightning.config_files import check_config
from omg_lightning.types import ConfigError


class Parser(LightningArgumentParser):
    """Parser without abbreviations; jsonargparse uses this class for the options of components, too."""

    def __init__(self, *args: Any, allow_abbrev: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=allow_abbrev, **kwargs)

    def parse_path(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Namespace:
        """Read a configuration file; raise a ConfigError if it is not text."""
        try:
            return super().parse_path(path, *args, **kwargs)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8 text ({error.reason}): give a .yaml file") from error

    def parse_string(self, content: str, path: str | os.PathLike[str] = "", *args: Any, **kwargs: Any) -> Namespace:
        """Read the text of a configuration, after checks that jsonargparse does not make."""
        check_config(content, str(path) or "--config", self.groups or ())
        return super().parse_string(content, path, *args, **kwargs)


class Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help formatter that keeps the line breaks of the epilog."""


def listed(value: Any) -> list[Any]:
    """Return a list unchanged, a single value as a list of one, and None as an empty list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def one(devices: Any) -> Any:
    """Return a single device: the first one of a list."""
    return devices[:1] if isinstance(devices, list) else 1


def seed_of(value: int | bool) -> int:
    """Return the seed of `--seed_everything`; true and false stand for 0, as Lightning records them."""
    return 0 if isinstance(value, bool) else int(value)
