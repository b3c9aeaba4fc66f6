"""One self-contained HTML file that shows episodes in the page, without a server."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omg_lightning.files import replace_text
from omg_lightning.viewer.session import Session

PAGE = Path(__file__).with_name("page.html")
_EMPTY = '<script id="data" type="application/json">null</script>'


class Side(NamedTuple):
    """One episode in the page, which can show several of them side by side."""

    name: str
    about: dict[str, Any]  # see `Session.describe`
    frames: list[dict[str, Any]]  # see `Session.frames`


def side_of(name: str, session: Session) -> Side:
    """Return the session's current episode."""
    return Side(name, session.describe(), list(session.frames))


def html(episodes: Sequence[Sequence[Side]]) -> str:
    """Return the page with `episodes` in it, each with one or more sides from the same initial state."""
    shown = {"episodes": [[side._asdict() for side in sides] for sides in episodes]}
    data = json.dumps(shown, separators=(",", ":")).replace("</", "<\\/")  # the text must not close the element
    return PAGE.read_text(encoding="utf-8").replace(_EMPTY, _EMPTY.replace("null", data))


def write_html(episodes: Sequence[Sequence[Side]], path: Path) -> None:
    """Write `html` to a file atomically."""
    replace_text(path, html(episodes))
