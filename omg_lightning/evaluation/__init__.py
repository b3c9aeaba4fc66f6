"""Evaluation of trained agents: the adaptation protocol, statistics over seeds, figures. Plays no games."""

from omg_lightning.evaluation.protocol import FILE, align, labels, load, numbers, refer, save, table
from omg_lightning.evaluation.record import ALL, SEEN, UNSEEN, Group, Record, Result
from omg_lightning.evaluation.references import FILE as REFERENCES
from omg_lightning.evaluation.references import References
from omg_lightning.evaluation.scores import Curve, Relationship, normalise
from omg_lightning.evaluation.statistics import Summary, iqm, mean

__all__ = [
    "ALL",
    "FILE",
    "REFERENCES",
    "SEEN",
    "UNSEEN",
    "Curve",
    "Group",
    "Record",
    "References",
    "Relationship",
    "Result",
    "Summary",
    "align",
    "iqm",
    "labels",
    "load",
    "mean",
    "normalise",
    "numbers",
    "refer",
    "save",
    "table",
]
