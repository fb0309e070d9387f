"""Instances keep their numbers."""

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from flowpose_ros.geometry.symmetry import SymmetryAxis, SymmetryGroup
from flowpose_ros.records import Detection, PoseEstimate
from flowpose_ros.tracking.association import InstanceNames

SECOND = 1_000_000_000


def seen(x, label="mug", instance=None):
    T = np.eye(4)
    T[:3, 3] = x, 0, 1
    detection = Detection(label, np.zeros(4), instance=instance)
    return PoseEstimate(label, -1, T, 0.9, np.eye(6), detection)


def numbers(names, *estimates, at=0.0):
    return [e.instance for e in names.name(estimates, round(at * SECOND))]


def test_instances_of_each_class_count_from_zero():
    assert numbers(InstanceNames(), seen(0), seen(0.5), seen(0, "box")) == [0, 1, 0]


def test_the_order_of_detections_does_not_matter():
    names = InstanceNames()
    assert numbers(names, seen(0), seen(0.5)) == [0, 1]
    assert numbers(names, seen(0.52), seen(0.01), at=0.1) == [1, 0]


def test_the_closest_pair_is_matched_first():
    names = InstanceNames()
    numbers(names, seen(0), seen(0.2))
    assert numbers(names, seen(0.11), seen(0.19), at=0.1) == [0, 1]


def test_a_far_object_is_another_instance():
    names = InstanceNames()
    numbers(names, seen(0))
    assert numbers(names, seen(1.0), at=0.1) == [1]


def test_an_object_that_turns_about_its_middle_stays_the_same_wherever_its_origin_is():
    center = np.array([1.0, 0, 0])
    names = InstanceNames(centers={"arm": center})
    for n, turn_deg in enumerate((0, 90, 180)):
        T = np.eye(4)
        T[:3, :3] = Rotation.from_euler("z", turn_deg, degrees=True).as_matrix()
        T[:3, 3] = np.array([0, 0, 2.0]) - T[:3, :3] @ center
        assert numbers(names, replace(seen(0, "arm"), T_cam_obj=T), at=n / 10) == [0]


def test_an_instance_missed_for_a_moment_comes_back_under_its_number():
    names = InstanceNames()
    numbers(names, seen(0), seen(0.5))
    numbers(names, seen(0.5), at=0.1)
    assert numbers(names, seen(0.0), seen(0.5), at=0.2) == [0, 1]


def test_instances_are_forgotten_after_a_while():
    names = InstanceNames()
    numbers(names, seen(0), seen(0.5))
    assert numbers(names, seen(0.5), at=10) == [0]


def test_the_detectors_numbers_are_kept():
    names = InstanceNames()
    assert numbers(names, seen(0, instance=5), seen(0.5), seen(1, instance=0)) == [5, 1, 0]
    assert numbers(names, seen(0.5, instance=5), at=0.1) == [5]


def test_a_number_that_the_detector_gives_to_one_goes_to_no_other_nearby():
    names = InstanceNames()
    numbers(names, seen(0, instance=5))
    assert numbers(names, seen(0.5, instance=5), seen(0.01), at=0.1) == [5, 0]


def test_two_equal_numbers_of_the_detector_do_not_share_a_name():
    assert numbers(InstanceNames(), seen(0, instance=3), seen(0.5, instance=3)) == [3, 0]


def test_reset_forgets():
    names = InstanceNames()
    numbers(names, seen(0), seen(0.5))
    names.reset()
    assert numbers(names, seen(0.5), at=0.1) == [0]


def test_an_object_of_revolution_does_not_spin_and_one_with_two_sides_does_not_flip():
    can = SymmetryGroup(np.zeros((0, 4, 4)), (SymmetryAxis(np.array([0.0, 0, 1]), np.zeros(3)),))
    half = np.diag([-1.0, -1, 1, 1])
    names = InstanceNames({"can": can, "tray": SymmetryGroup(half[None])})
    for n, turn_deg in enumerate((0, 70, 200, 340)):
        estimates = [seen(0, "can"), seen(0.5, "tray"), seen(1, "mug")]
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("z", turn_deg, degrees=True).as_matrix()
        if n % 2:
            estimates[1] = replace(estimates[1], T_cam_obj=estimates[1].T_cam_obj @ half)
        for i in (0, 2):
            estimates[i] = replace(estimates[i], T_cam_obj=estimates[i].T_cam_obj @ turn)
        named = names.name(estimates, (n + 1) * SECOND // 10)
        assert np.allclose(named[0].T_cam_obj[:3, :3], np.eye(3)) and np.allclose(named[1].T_cam_obj[:3, :3], np.eye(3))
        assert np.allclose(named[2].T_cam_obj[:3, :3], turn[:3, :3])
