"""Lightning callbacks. Each hook does one thing; algorithms live elsewhere."""

from callbacks.buffer_refresh import BufferRefresh
from callbacks.code_drift import CodeDrift
from callbacks.goal_effect import GoalEffect
from callbacks.goal_figures import GoalFigures
from callbacks.goal_pictures import GoalPictures
from callbacks.goal_quality import GoalQuality
from callbacks.projector import Projector
from callbacks.replay import EpisodeAnimation, ReplayWriter
from callbacks.report import Report
from callbacks.return_figure import ReturnFigure
from callbacks.run_checkpoint import RunCheckpoint
from callbacks.run_progress import RunProgress
from callbacks.seat_schedule import SeatSchedule
from callbacks.tree_count import TreeCount

__all__ = [
    "BufferRefresh",
    "CodeDrift",
    "EpisodeAnimation",
    "GoalEffect",
    "GoalFigures",
    "GoalPictures",
    "GoalQuality",
    "Projector",
    "ReplayWriter",
    "Report",
    "ReturnFigure",
    "RunCheckpoint",
    "RunProgress",
    "SeatSchedule",
    "TreeCount",
]
