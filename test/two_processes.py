"""What each of two processes does in the test of their gradients; spawned, so it must be importable."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from training.loop import agreed, average_gradients, join_processes


def tiny_module():
    """One module with a parameter that no loss reaches."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    module.unused = nn.Parameter(torch.ones(5))
    return module


def gradients_of(module, rank):
    """Gradients of the module's loss on a process's own sample."""
    module.zero_grad()
    module(torch.tensor([[1.0, 2.0, 3.0]]) * (1 + rank)).square().sum().backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def share_gradients(rank: int, port: int, folder: Path) -> None:
    """Join, average the gradients, vote, and write down what came of it."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    joined = join_processes()
    module = tiny_module()
    gradients_of(module, rank)
    average_gradients(module, 2)
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    votes = [agreed(rank == 1, 2), agreed(False, 2)]
    torch.save({"joined": joined, "gradients": found, "votes": votes}, folder / f"{rank}.pt")
    dist.destroy_process_group()
