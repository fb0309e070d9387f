"""What a coarse stage hands on."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Hypotheses:
    """Candidate poses of one object, best first: T_cam_obj [n,4,4] metres, score [n] in [0,1]."""

    T_cam_obj: torch.Tensor
    score: torch.Tensor
