"""Whether a device still works: after some faults of a GPU nothing in the same process can use it any more."""

from __future__ import annotations

import torch

from flowpose_ros.errors import DeviceLostError


def check_device(device: torch.device) -> None:
    """Raise DeviceLostError when a GPU no longer answers; waits for what it has to do. A CPU always answers."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise DeviceLostError(f"device {device}: expected an answer, got {reason!r}; only another process can use it "
                              "again") from error
