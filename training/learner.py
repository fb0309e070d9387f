"""One step of training, without a wait for the GPU; on a GPU it can be recorded once and played again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields

import torch
from torch import nn

from training.pairs import PairBatch

Figures = dict[str, torch.Tensor]
"""Figures for the log, scalars on the device: reading a number waits for the GPU."""
Loss = Callable[[PairBatch, torch.Tensor], tuple[torch.Tensor, Figures]]
"""(batch, share of the pose loss) -> what is to fall, and figures."""
WARM_UPS = 3


class Learner:
    """A network and its optimiser; a step whose gradient is not finite changes nothing."""

    def __init__(self, network: nn.Module, learning_rate: float, weight_decay: float, clip: float) -> None:
        self.network, self.clip = network, clip
        device = next(network.parameters()).device
        learning = [p for p in network.parameters() if p.requires_grad]
        decayed, plain = [p for p in learning if p.ndim > 1], [p for p in learning if p.ndim <= 1]
        self.learning_rate = torch.tensor(learning_rate, device=device)
        self.pose_share = torch.zeros((), device=device)
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=self.learning_rate, fused=True, capturable=device.type == "cuda")

    def learn(self, batch: PairBatch, loss: Loss, learning_rate: float, pose_share: float,
              average_gradients=lambda network: None) -> Figures:
        """One step; returns the figures of the log.

        average_gradients: what to do with the gradients of the network before they are used.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate  # a checkpoint may have brought another
        self.learning_rate.fill_(learning_rate)
        self.pose_share.fill_(pose_share)
        return self._step(batch, loss, average_gradients)

    def _step(self, batch: PairBatch, loss: Loss, average_gradients) -> Figures:
        total, figures = loss(batch, self.pose_share)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        average_gradients(self.network)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimiser.found_inf = (~torch.isfinite(norm)).float()
        self.optimiser.step()
        return {**figures, "skipped": self.optimiser.found_inf}


class RecordedLearner(Learner):
    """A learner whose steps are CUDA graphs, one for each loss: their thousands of small kernels start without Python
    between them."""

    def __init__(self, *args, alone: AbstractContextManager = nullcontext(), **kwargs) -> None:
        """alone: what keeps other threads from the GPU while a step is recorded."""
        super().__init__(*args, **kwargs)
        self._alone = alone
        self._graphs: dict[Loss, tuple[torch.cuda.CUDAGraph, PairBatch, Figures]] = {}

    def _step(self, batch: PairBatch, loss: Loss, average_gradients) -> Figures:
        if loss not in self._graphs:
            with self._alone:
                self._graphs[loss] = self._recorded(batch, loss)
        graph, given, figures = self._graphs[loss]
        for field in fields(PairBatch):
            getattr(given, field.name).copy_(getattr(batch, field.name))
        graph.replay()
        return {name: value.clone() for name, value in figures.items()}

    def _recorded(self, batch: PairBatch, loss: Loss):
        """The graph, the batch it reads and the figures it writes; the steps before it warm up on `batch`."""
        given = dataclasses.replace(batch, **{f.name: getattr(batch, f.name).clone() for f in fields(PairBatch)})
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                super()._step(given, loss, lambda network: None)
        torch.cuda.current_stream().wait_stream(beside)
        self.optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            figures = super()._step(given, loss, lambda network: None)
        return graph, given, figures
