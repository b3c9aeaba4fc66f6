"""Episodes to watch and play, with the belief of each agent: sessions, and the page."""

from omg_lightning.viewer.export import write_html
from omg_lightning.viewer.session import HUMAN, Session

__all__ = ["HUMAN", "Session", "write_html"]
