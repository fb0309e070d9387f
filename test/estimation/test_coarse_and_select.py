"""What the stages around the networks promise, whatever the weights are."""

import numpy as np
import pytest
import torch

from flowpose_ros.errors import DetectionError
from flowpose_ros.estimation.box_start import box_crop, place
from flowpose_ros.estimation.coarse_gmm import GmmOptions, draw_rotations
from flowpose_ros.estimation.checks import check_detection
from flowpose_ros.estimation.template_features import spread_best
from flowpose_ros.estimation.views import Shape
from flowpose_ros.geometry.camera import box_around, project
from flowpose_ros.geometry.rotations import angles_between, mean_nearest_angle, random_rotations, super_fibonacci
from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.geometry.transforms import make_transform, transform_points
from flowpose_ros.objects.catalogue import ObjectModel
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.records import Detection, Frame

K = torch.tensor([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]])


@pytest.fixture(scope="module")
def shape():
    """A brick of 0.1 x 0.06 x 0.04 m whose origin is outside of it."""
    corners = np.array([[x, y, z] for x in (0.2, 0.3) for y in (0.0, 0.06) for z in (0.0, 0.04)], np.float32)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], np.int32)
    mesh = Mesh(corners, faces, np.full((12, 3, 3), 0.5, np.float32), np.zeros((12, 3, 2), np.float32),
                np.full(12, -1, np.int16))
    return Shape.of(ObjectModel("brick", None, mesh, SymmetryGroup.none(), None), torch.device("cpu"))


@pytest.mark.parametrize("middle", [(320, 240), (80, 60), (560, 420)])
def test_a_placed_object_fills_its_box(shape, middle):
    box = np.array([middle[0] - 50.0, middle[1] - 40, middle[0] + 50, middle[1] + 40])
    camera = box_crop(box, K)
    T = place(Detection("brick", box), K, shape, random_rotations(20, np.random.default_rng(0)), camera)
    seen = box_around(project(transform_points(T, shape.points), K[None]))
    sides = seen[:, 2:] - seen[:, :2]
    # One distance cannot make both sides right: it makes their mean ratio so.
    ratio = (sides / torch.tensor([100.0, 80.0])).log().mean(1).exp()
    assert (ratio - 1).abs().max() < 0.2
    assert ((seen[:, 2:] + seen[:, :2]) / 2 - torch.tensor(middle)).abs().max() < 25


@pytest.mark.parametrize("cx", [320, -300, 940], ids=["on the axis", "45 degrees right of it", "45 degrees left"])
def test_the_right_rotation_is_placed_at_the_right_distance_however_far_off_the_axis(shape, cx):
    K_off = torch.tensor([[600.0, 0, cx], [0, 600.0, 240], [0, 0, 1]])
    for R in torch.from_numpy(random_rotations(10, np.random.default_rng(0))).float():
        middle = torch.tensor([(320 - cx) / 600, 0.0, 1.0]) * 0.8
        T = make_transform(R[None], (middle - R @ shape.center)[None])
        box = box_around(project(transform_points(T, shape.points), K_off[None]))[0].double().numpy()
        camera = box_crop(box, K_off)
        found = place(Detection("brick", box), K_off, shape, (camera.R_crop_cam[0] @ R).double().numpy()[None], camera)
        off = transform_points(found, shape.center[None])[0, 0] - middle
        assert off.norm() < 0.03 * middle.norm()


def test_second_round_is_drawn_around_the_best():
    rotations = super_fibonacci(104)
    spacing = mean_nearest_angle(rotations)
    logits = np.full(104, -20.0)
    logits[17] = 5.0
    drawn = draw_rotations(rotations, logits, spacing, GmmOptions(samples=400), np.random.default_rng(0))
    angles = angles_between(drawn, rotations[17:18])[:, 0]
    # The length of a 3D Gaussian of deviation s is 1.6 s on average.
    assert angles.mean() == pytest.approx(1.6 * 0.9 * spacing, rel=0.1)


def test_second_round_weighs_components_by_score():
    rotations = super_fibonacci(104)
    logits = np.full(104, -50.0)
    logits[3], logits[90] = 2.0, 2.0 - np.log(3)
    drawn = draw_rotations(rotations, logits, 0.05, GmmOptions(samples=2000), np.random.default_rng(0))
    nearest = angles_between(drawn, rotations[[3, 90]]).argmin(1)
    assert (nearest == 0).mean() == pytest.approx(0.75, abs=0.04)


def test_chosen_rotations_are_the_best_and_apart():
    rotations, rng = random_rotations(300, np.random.default_rng(1)), np.random.default_rng(2)
    logits = rng.normal(size=300)
    chosen = spread_best(rotations, logits, 10, np.radians(30))
    assert chosen[0] == logits.argmax() and list(logits[chosen]) == sorted(logits[chosen], reverse=True)
    angles = angles_between(rotations[chosen], rotations[chosen])
    assert angles[~np.eye(10, dtype=bool)].min() >= np.radians(30)


@pytest.mark.parametrize("box, message", [
    ([10, 10, np.nan, 50], "finite"), ([10, 10, 13, 50], "8 pixels"), ([10, 10, 50], "4 finite"),
    ([-90, 10, -20, 50], "inside the 640 x 480"), ([700, 10, 790, 50], "inside the 640 x 480")])
def test_an_unusable_box_is_refused_by_name(box, message):
    frame = Frame(np.zeros((480, 640, 3), np.uint8), K.double().numpy())
    with pytest.raises(DetectionError, match=f"mug: box: .*{message}"):
        check_detection(Detection("mug", np.array(box, dtype=float)), frame)


def test_a_mask_of_another_size_than_the_image_is_refused_by_name():
    frame = Frame(np.zeros((480, 640, 3), np.uint8), K.double().numpy())
    with pytest.raises(DetectionError, match="mug: mask: expected 640 x 480 pixels as the image has, got 320 x 240"):
        check_detection(Detection("mug", np.array([10.0, 10, 90, 90]), mask=np.ones((240, 320), bool)), frame)
