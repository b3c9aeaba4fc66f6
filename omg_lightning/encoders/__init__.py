"""Encoders of observations, goal-conditioned networks on top of them, and decoders."""

from omg_lightning.encoders.base import Encoder
from omg_lightning.encoders.centred import Centred
from omg_lightning.encoders.conv import Conv
from omg_lightning.encoders.decoders import Decoder, PlaneDecoder, PlaneLogits
from omg_lightning.encoders.mlp import MLP
from omg_lightning.encoders.networks import EncoderFactory, GoalNet, ModelSpec, SeatNets, Sharing
from omg_lightning.encoders.paths import Paths
from omg_lightning.encoders.recurrent_conv import RecurrentConv

__all__ = [
    "MLP",
    "Centred",
    "Conv",
    "Decoder",
    "Encoder",
    "EncoderFactory",
    "GoalNet",
    "ModelSpec",
    "Paths",
    "PlaneDecoder",
    "PlaneLogits",
    "RecurrentConv",
    "SeatNets",
    "Sharing",
]
