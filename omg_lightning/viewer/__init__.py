"""Episodes that a person can watch and play, with what each agent believes: sessions, and a page that shows them."""

from omg_lightning.viewer.export import write_html
from omg_lightning.viewer.session import HUMAN, Session

__all__ = ["HUMAN", "Session", "write_html"]
