"""How well poses explain a frame: by which of several are compared, and how probable it is that an answer is right."""

from __future__ import annotations

import torch

from flowpose_ros.estimation.agreement import colour_agreement, contour_agreement, texture_agreement
from flowpose_ros.estimation.batches import in_parts
from flowpose_ros.estimation.depth import DepthOptions, believable, depth_shares
from flowpose_ros.estimation.evidence import evidence
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.match import found_in_places
from flowpose_ros.geometry.box import sides_off
from flowpose_ros.networks.scorer import cell_cover


@torch.no_grad()
def judge(target: Target, look: Look, options: DepthOptions, box_weight: float = 0.0) -> torch.Tensor:
    """How right [B] each pose of a look seems, in [0,1]: the higher of an object's poses is the better one.

    box_weight: what each side of the box that a pose fills costs, as a logit, where it is off the detection's. A
    detection says where the object ends; what is published does not count on it (`trust`).
    """
    found = in_parts(lambda part: witnesses(target, part, options), look, len(look.T_cam_obj))
    right = target.networks.pose_score(found)
    if box_weight and target.box is not None:
        size = tuple(target.frame.image.shape[-2:])
        right = right - box_weight * sides_off(target.shape.points, look.T_cam_obj, target.box, target.frame.K, size)
    return torch.sigmoid(right)


@torch.no_grad()
def trust(target: Target, look: Look, spread: torch.Tensor, options: DepthOptions) -> torch.Tensor:
    """The probability [B] that each pose of a look is right; spread [B]: how far off its flow holds it possible (see
    `Support`).

    The verifier tells right answers from wrong ones far better than what poses are compared by; between the sides of
    one object it is no better. Neither tells a pose that is nearly right from one that is, which the spread does.
    Without a verifier, as `judge` has it.
    """
    if target.networks.verifier is None:
        return judge(target, look, options)

    def logits(part: tuple[Look, torch.Tensor]) -> torch.Tensor:
        poses, spread = part
        return target.networks.pose_score.trust(witnesses(target, poses, options), verified(target, poses, options),
                                                spread)

    return torch.sigmoid(in_parts(logits, (look, spread), len(look.T_cam_obj)))


@torch.no_grad()
def verified(target: Target, look: Look, options: DepthOptions) -> torch.Tensor:
    """The verifier's logits [B]."""
    return target.networks.verifier(evidence(target, look, options)).clamp(-8, 8)


@torch.no_grad()
def witnesses(target: Target, look: Look, options: DepthOptions) -> torch.Tensor:
    """What speaks for B poses: [B,4], or [B,6] where there is depth, as `PoseScore` takes it.

    The scorer's logit and how surely its parts are found in their places; then, without depth, how the query's edges
    follow the silhouette and how its texture agrees; with depth the colours' correlation, the logarithms of the shares
    of the object that agree with it and that it looks through, and the share it has no measurement of.
    """
    r = look.views.rendering
    match = target.networks.scorer(look.source[1].float(), cell_cover(r.mask), look.query[1].float()).clamp(-8, 8)
    place = found_in_places(look.source, look.query, r.mask)
    if look.depth is None:
        return torch.stack([match, place, 100 * contour_agreement(r.mask, look.picture),
                            4 * texture_agreement(r.rgb, r.mask, look.picture)], 1)
    shares = believable(depth_shares(r.depth, r.mask, look.depth, options.agreement_distance(target.shape.diameter)))
    return torch.stack([match, place, 4 * colour_agreement(r.rgb, r.mask, look.picture) - 2, (shares.agree + 0.02).log(),
                        (shares.farther + 0.02).log(), 1 - shares.measured], 1)
