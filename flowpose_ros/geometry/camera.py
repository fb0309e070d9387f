"""The pinhole camera, and the perspective crop.

Conventions, stated here once. OpenCV axes: x right, y down, z forward. (u, v) of an integer pixel
is its centre, so an image W wide spans u from -0.5 to W - 0.5. Intrinsics K [3,3] are in pixels.
A box is (left, top, right, bottom) in the same coordinates.
A crop is the view of a virtual camera at the same place, rotated so that its axis passes through
the point of interest: T_crop_cam is a pure rotation, and K_crop has its principal point in the
middle of the crop. The view of an object then does not depend on where in the image it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from flowpose_ros.errors import GeometryError


FOCAL_RANGE = 0.1, 100.0
"""Smallest and largest focal length that is believed, in image widths."""


def check_intrinsics(K: np.ndarray, width: int, height: int, window: bool = False) -> None:
    """Raise GeometryError unless K [3,3] is a usable pinhole matrix of a width x height image; window: which may be any
    part of a larger one, so that the principal point may lie anywhere."""
    K = np.asarray(K)
    if K.shape != (3, 3):
        raise GeometryError(f"K: expected shape [3, 3], got {list(K.shape)}")
    if not np.isfinite(K).all():
        raise GeometryError(f"K: expected finite numbers, got {K.tolist()}")
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise GeometryError(f"K: expected positive focal lengths, got fx={K[0, 0]}, fy={K[1, 1]}")
    low, high = (width * limit for limit in FOCAL_RANGE)
    if not (low <= K[0, 0] <= high and low <= K[1, 1] <= high):
        raise GeometryError(f"K: expected focal lengths of {low:g} to {high:g} pixels for an image {width} wide, "
                            f"got fx={K[0, 0]}, fy={K[1, 1]}")
    if K[0, 1] != 0 or K[1, 0] != 0 or K[2, 0] != 0 or K[2, 1] != 0 or abs(K[2, 2] - 1) > 1e-6:
        raise GeometryError(f"K: expected an upper triangular matrix without skew, ending in 1, got {K.tolist()}")
    if not window and not (-width < K[0, 2] < 2 * width and -height < K[1, 2] < 2 * height):
        raise GeometryError(f"K: expected a principal point near the {width} x {height} image, "
                            f"got cx={K[0, 2]}, cy={K[1, 2]}")


def project(points: torch.Tensor, K: torch.Tensor, z_min: float = 1e-6) -> torch.Tensor:
    """Pixels [...,N,2] of camera-frame points [...,N,3] under K [...,3,3]; z is clamped at z_min."""
    z = points[..., 2:].clamp_min(z_min)
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]], -1)[..., None, :]
    centre = torch.stack([K[..., 0, 2], K[..., 1, 2]], -1)[..., None, :]
    return points[..., :2] / z * focal + centre


def pixel_grid(height: int, width: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Pixel centres (u, v) [H,W,2] float32."""
    v, u = torch.meshgrid(torch.arange(height, dtype=torch.float32, device=device),
                          torch.arange(width, dtype=torch.float32, device=device), indexing="ij")
    return torch.stack([u, v], -1)


def back_project(pixels: torch.Tensor, depth: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """Camera-frame points [...,N,3] of pixels [...,N,2] at depths along z [...,N] under K [...,3,3]."""
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]], -1)[..., None, :]
    centre = torch.stack([K[..., 0, 2], K[..., 1, 2]], -1)[..., None, :]
    xy = (pixels - centre) / focal * depth[..., None]
    return torch.cat([xy, depth[..., None]], -1)


@dataclass(frozen=True)
class CropCamera:
    """Virtual cameras of B crops: K [B,3,3] pixels, R_crop_cam [B,3,3], size in pixels (square)."""

    K: torch.Tensor
    R_crop_cam: torch.Tensor
    size: int

    def to_crop(self, T_cam_obj: torch.Tensor) -> torch.Tensor:
        """T_crop_obj [B,4,4] of T_cam_obj [B,4,4]."""
        return self._rotate(self.R_crop_cam, T_cam_obj)

    def to_camera(self, T_crop_obj: torch.Tensor) -> torch.Tensor:
        """T_cam_obj [B,4,4] of T_crop_obj [B,4,4]."""
        return self._rotate(self.R_crop_cam.transpose(-1, -2), T_crop_obj)

    @staticmethod
    def _rotate(R: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
        out = T.clone()
        out[..., :3, :] = R @ T[..., :3, :]
        return out


def look_at(rays: torch.Tensor) -> torch.Tensor:
    """Smallest rotations R_crop_cam [B,3,3] that turn viewing rays [B,3] onto the z axis."""
    z = F.normalize(rays, dim=-1)
    # Rodrigues for the rotation from z to (0,0,1): axis z x e_z, cosine z_z; never 180 degrees,
    # because a pixel's ray points forward.
    axis = torch.stack([z[..., 1], -z[..., 0], torch.zeros_like(z[..., 0])], -1)
    x, y, o = axis[..., 0], axis[..., 1], torch.zeros_like(axis[..., 0])
    W = torch.stack([o, o, y, o, o, -x, -y, x, o], -1).reshape(*z.shape[:-1], 3, 3)
    eye = torch.eye(3, dtype=rays.dtype, device=rays.device)
    return eye + W + W @ W / (1 + z[..., 2])[..., None, None]


def crop_around(rays: torch.Tensor, half_angle_tan: torch.Tensor, size: int) -> CropCamera:
    """Crop cameras that look along rays [B,3] with half field of view atan(half_angle_tan [B])."""
    focal = size / (2 * half_angle_tan)
    K = torch.zeros(rays.shape[0], 3, 3, dtype=rays.dtype, device=rays.device)
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, 0, 2] = K[:, 1, 2] = (size - 1) / 2
    K[:, 2, 2] = 1
    return CropCamera(K, look_at(rays), size)


def crop_homography(crop: CropCamera, K: torch.Tensor) -> torch.Tensor:
    """Homographies [B,3,3] from crop pixels to pixels of the camera with intrinsics K [B,3,3]."""
    return K @ crop.R_crop_cam.transpose(-1, -2) @ inverse_intrinsics(crop.K)


def inverse_intrinsics(K: torch.Tensor) -> torch.Tensor:
    """The inverse [...,3,3] of intrinsics without skew K [...,3,3]: from pixels to rays with z = 1."""
    inverse = torch.zeros_like(K)
    for i in (0, 1):
        inverse[..., i, i] = 1 / K[..., i, i]
        inverse[..., i, 2] = -K[..., i, 2] / K[..., i, i]
    inverse[..., 2, 2] = 1
    return inverse


def samples_per_side(crop: CropCamera, K: torch.Tensor) -> int:
    """How many samples of an image with intrinsics K [3,3] or [B,3,3] each pixel of the widest crop takes the mean of,
    across and down."""
    return max(_samples_of_each(crop, K))


def _samples_of_each(crop: CropCamera, K: torch.Tensor) -> list[int]:
    """The same for each crop: so many as the image's pixels are smaller, at most 4."""
    return (K[..., 0, 0] / crop.K[:, 0, 0]).round().clamp(1, 4).int().tolist()


def sample_crop(image: torch.Tensor, crop: CropCamera, K: torch.Tensor, mode: str = "bilinear",
                per_side: int | None = None, outside: str = "zeros") -> torch.Tensor:
    """The crops [B,C,S,S] of one image [C,H,W] (or B images [B,C,H,W]).

    K [3,3] or [B,3,3]: the image's intrinsics; outside: what lies beyond it, "zeros" or the nearest pixel of its "border".
    Minifying crops are low-passed by the mean of several samples a crop pixel, so that fine texture does not alias:
    per_side squared, or, where that is None, as many as each crop needs for its own scale, which waits for a GPU; one
    where the mode is not bilinear.
    """
    B, S = crop.K.shape[0], crop.size
    K, images = K.to(crop.K).expand(B, 3, 3), image.expand(B, *image.shape[-3:])
    if mode != "bilinear":
        per_side = 1
    elif per_side is None:
        each = _samples_of_each(crop, K)
        if len(set(each)) > 1:
            return _sample_apart(image, crop, K, each, outside)
        per_side = each[0] if each else 1
    H_img_crop = crop_homography(crop, K)
    height, width = image.shape[-2:]
    offsets = [(i + 0.5) / per_side - 0.5 for i in range(per_side)]
    u, v = pixel_grid(S, S, image.device).reshape(-1, 2).unbind(1)
    total = 0
    for dv in offsets:
        for du in offsets:
            p = torch.stack([u + du, v + dv, torch.ones_like(u)], 1) @ H_img_crop.transpose(-1, -2)
            x, y = (p[..., :2] / p[..., 2:].clamp_min(1e-9)).unbind(-1)
            norm = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
            total = total + F.grid_sample(images, norm.reshape(B, S, S, 2).to(images.dtype), mode=mode,
                                          padding_mode=outside, align_corners=False)
    return total / per_side ** 2


def _sample_apart(image: torch.Tensor, crop: CropCamera, K: torch.Tensor, each: list[int], outside: str) -> torch.Tensor:
    """Crops [B,C,S,S] of one image [C,H,W], or B, that need different numbers of samples."""
    out = image.new_empty(len(each), image.shape[-3], crop.size, crop.size)
    for per_side in sorted(set(each)):
        rows = torch.tensor([i for i, count in enumerate(each) if count == per_side], device=image.device)
        some = CropCamera(crop.K[rows], crop.R_crop_cam[rows], crop.size)
        out[rows] = sample_crop(image if image.dim() == 3 else image[rows], some, K[rows], per_side=per_side, outside=outside)
    return out


def depth_to_crop(depth: torch.Tensor, crop: CropCamera, K: torch.Tensor) -> torch.Tensor:
    """Depth along each crop's own z axis [B,S,S] from depth [H,W] along the camera's; 0 invalid.

    Nearest pixel: an interpolated depth across an edge is a point that does not exist.
    """
    z_cam = sample_crop(depth[None], crop, K, mode="nearest")[:, 0]
    S = crop.size
    rays = back_project(pixel_grid(S, S, depth.device).reshape(1, -1, 2).to(crop.K),
                        torch.ones(crop.K.shape[0], S * S, dtype=crop.K.dtype, device=depth.device), crop.K)
    z_of_unit_ray = (rays @ crop.R_crop_cam)[..., 2]  # camera z of a crop ray with crop z = 1
    return z_cam / z_of_unit_ray.reshape(-1, S, S).to(z_cam.dtype)


def box_around(pixels: torch.Tensor) -> torch.Tensor:
    """Boxes [B,4] (left, top, right, bottom) around pixels [B,N,2]."""
    return torch.cat([pixels.amin(1), pixels.amax(1)], -1)
