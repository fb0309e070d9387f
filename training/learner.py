"""One step of the refiner's training, without a wait for the GPU; on a GPU it can be recorded once and played again."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields

import torch

from flowpose_ros.networks.flow import GenFlow, RenderView
from flowpose_ros.networks.matching import joint_features
from training.losses import LossWeights, matching_loss, refiner_loss
from training.pairs import PairBatch

FIGURES = "match", "loss", "epe", "cert", "pose", "start"
WARM_UPS = 3


def view_of(batch: PairBatch) -> RenderView:
    """The network's view of a batch's renders."""
    return RenderView(batch.render_rgb, batch.render_normal, batch.render_xyz, batch.render_mask, batch.K,
                      batch.T_init, batch.center, batch.radius)


class Learner:
    """A network and its optimiser; a step whose gradient is not finite changes nothing."""

    def __init__(self, network: GenFlow, learning_rate: float, weight_decay: float, clip: float) -> None:
        self.network, self.clip, self.weights = network, clip, LossWeights()
        device = next(network.parameters()).device
        decayed = [p for p in network.parameters() if p.ndim > 1]
        plain = [p for p in network.parameters() if p.ndim <= 1]
        self.learning_rate = torch.tensor(learning_rate, device=device)
        self.pose_share = torch.zeros((), device=device)
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=self.learning_rate, fused=True, capturable=device.type == "cuda")

    def learn(self, batch: PairBatch, learning_rate: float, pose_share: float, features_alone: bool,
              average_gradients=lambda network: None) -> dict[str, torch.Tensor]:
        """One step; returns the figures of the log as scalars on the device.

        average_gradients: what to do with the gradients of the network before they are used.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate  # a checkpoint may have brought another
        self.learning_rate.fill_(learning_rate)
        self.pose_share.fill_(pose_share)
        return self._step(batch, features_alone, average_gradients)

    def _step(self, batch: PairBatch, features_alone: bool, average_gradients) -> dict[str, torch.Tensor]:
        total, figures = self._loss(batch, features_alone)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        average_gradients(self.network)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimiser.found_inf = (~torch.isfinite(norm)).float()
        self.optimiser.step()
        return {**figures, "skipped": self.optimiser.found_inf}

    def _loss(self, batch: PairBatch, features_alone: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        network = self.network
        query, source = network.encode(batch.query_rgb), network.encode(batch.render_rgb)
        match = sum(matching_loss(s, q, batch) for s, q in zip((*source, joint_features(source)),
                                                               (*query, joint_features(query))))
        total, figures = self.weights.matching * match, {"match": match.detach()}
        if not features_alone:
            losses = refiner_loss(network(query, view_of(batch), source), batch, self.weights, self.pose_share)
            total = total + losses.total
            figures.update(loss=losses.total.detach(), epe=losses.flow_error, cert=losses.certainty_error,
                           pose=losses.pose_error, start=losses.start_error)
        return total, figures


class RecordedLearner(Learner):
    """A learner whose step is a CUDA graph: its thousands of small kernels start without Python between them."""

    def __init__(self, *args, alone: AbstractContextManager = nullcontext(), **kwargs) -> None:
        """alone: what keeps other threads from the GPU while a step is recorded."""
        super().__init__(*args, **kwargs)
        self._alone = alone
        self._graphs: dict[bool, tuple[torch.cuda.CUDAGraph, PairBatch, dict[str, torch.Tensor]]] = {}

    def _step(self, batch: PairBatch, features_alone: bool, average_gradients) -> dict[str, torch.Tensor]:
        if features_alone not in self._graphs:
            with self._alone:
                self._graphs[features_alone] = self._recorded(batch, features_alone)
        graph, given, figures = self._graphs[features_alone]
        for field in fields(PairBatch):
            getattr(given, field.name).copy_(getattr(batch, field.name))
        graph.replay()
        return {name: value.clone() for name, value in figures.items()}

    def _recorded(self, batch: PairBatch, features_alone: bool):
        """The graph, the batch it reads and the figures it writes; the steps before it warm up on `batch`."""
        given = dataclasses.replace(batch, **{f.name: getattr(batch, f.name).clone() for f in fields(PairBatch)})
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                super()._step(given, features_alone, lambda network: None)
        torch.cuda.current_stream().wait_stream(beside)
        self.optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            figures = super()._step(given, features_alone, lambda network: None)
        return graph, given, figures
