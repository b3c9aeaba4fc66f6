"""The file of references: returns of a random player and of a best response, by game and co-player."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omg_lightning.files import locked, replace_text, unwritable
from omg_lightning.types import ConfigError

FILE = "references.json"
COMMAND = "python -m omg_lightning references"
_CHECKPOINT = "checkpoint:"
Entry = dict[str, Any]  # random, best_response, and how they were measured


class References:
    """Entries by game and partner; a file holds those of any number of games.

    Args:
        path: of the JSON file, which may not exist yet.

    Raises:
        ConfigError: the file is not a file of references.
    """

    def __init__(self, path: str | os.PathLike[str] = FILE) -> None:
        self.path, self.games = Path(path), dict[str, Any]()
        self.read()

    def read(self) -> None:
        """Read the file again: another process may have added to it."""
        if not self.path.is_file():
            return
        try:
            self.games = json.loads(self.path.read_text())["games"]
            for game in self.games.values():
                for entry in game["partners"].values():
                    float(entry["random"]), float(entry["best_response"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self.path} is not a file of references: make one with {COMMAND}") from error

    def find(self, game: Mapping[str, Any], partner: str) -> Entry | None:
        """Return the entry of a partner in the game with these options, or None."""
        found = self.games.get(fingerprint(game))
        return None if found is None else found["partners"].get(partner_key(partner))

    def add(self, game: Mapping[str, Any], partner: str, entry: Entry) -> Entry:
        """Read the file again, add an entry, and write the file atomically.

        Returns:
            The entry in the file. It is another one if another process was faster: existing entries are never replaced.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path):
                self.read()
                own = self.games.setdefault(fingerprint(game), {"game": dict(game), "partners": {}})
                kept = own["partners"].setdefault(partner_key(partner), entry)
                replace_text(self.path, json.dumps({"games": self.games}, indent=2) + "\n")
        except OSError as error:
            raise unwritable(self.path, error) from error
        return kept

    def missing(self, game: Mapping[str, Any], partner: str) -> str:
        """Return a short reason why there is no entry."""
        if not self.games:
            return f"no references in {self.path}"
        if fingerprint(game) not in self.games:
            return f"{self.path} has references for other games, but not for this one"
        return f"{self.path} has no reference for {partner}"


def fingerprint(game: Mapping[str, Any]) -> str:
    """Return a hash of a game's name and options, 12 hexadecimal digits; their order does not matter."""
    return hashlib.sha256(json.dumps(game, sort_keys=True).encode()).hexdigest()[:12]


def partner_key(partner: str) -> str:
    """Return the key of a partner: its name, or for a checkpoint a hash of the file's content.

    The weights at a path can change, so the path itself is not a key.

    Raises:
        ConfigError: the checkpoint does not exist.
    """
    if not partner.startswith(_CHECKPOINT):
        return partner
    path = Path(partner.removeprefix(_CHECKPOINT))
    if not path.is_file():
        raise ConfigError(f"no checkpoint at {path}: give the path of a .ckpt file that `fit` wrote")
    return f"{_CHECKPOINT}{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
