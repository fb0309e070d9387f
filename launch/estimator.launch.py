"""The estimator for one camera.

ros2 launch flowpose_ros estimator.launch.py objects:=/path/to/objects namespace:=camera \
    image:=color/image_raw camera_info:=color/camera_info depth:=aligned_depth_to_color/image_raw \
    detections:=/yolo/detections
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("flowpose_ros"))

ARGUMENTS = {
    "objects": (None, "folder of the objects: BOP models/ as it is, or one mesh per object"),
    "namespace": ("", "namespace of the camera"),
    "image": ("image", "topic of the colour images"),
    "camera_info": ("camera_info", "topic of their calibration"),
    "depth": ("depth", "topic of depth images registered to colour; may be silent"),
    "detections": ("detections", "topic of vision_msgs/Detection2DArray"),
    "masks": ("masks", "topic of label images of the detections' masks; may be silent"),
    "params_file": (str(SHARE / "config" / "estimator.yaml"), "parameters of the node"),
    "object_unit": ("", "unit of the meshes where their folder says none: m, mm, cm, inch"),
    "labels": ("", "objects to load, separated by commas; all if empty"),
    "tf_prefix": ("", "put before the names of TF frames, as left/"),
    "mode": ("", "'detect' estimates every detection, 'track' follows what was detected"),
    "image_transport": ("", "'raw', or 'compressed' to listen to <image>/compressed"),
    "rectified": ("", "'true' where images come undistorted (image_rect)"),
    "autostart": ("", "'true' configures and activates without a lifecycle manager"),
    "use_sim_time": ("", "'true' takes the time from /clock"),
    "respawn": ("false", "start the node again 2 s after its process died"),
}

PARAMETERS = {"objects": str, "object_unit": str, "labels": str, "tf_prefix": str, "mode": str, "image_transport": str,
              "rectified": bool, "autostart": bool, "use_sim_time": bool}
"""Arguments that are parameters of the node; one that is left empty is as the parameter file, or the node, has it."""


def generate_launch_description():
    declarations = [DeclareLaunchArgument(name, description=text) if default is None else
                    DeclareLaunchArgument(name, default_value=default, description=text)
                    for name, (default, text) in ARGUMENTS.items()]
    # Room for images in Fast DDS's shared memory; with the default, best-effort ones are lost.
    profile = SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", EnvironmentVariable(
        "FASTDDS_DEFAULT_PROFILES_FILE", default_value=str(SHARE / "config" / "fastdds_profile.xml")))
    return LaunchDescription([*declarations, profile, OpaqueFunction(function=estimator)])


def estimator(context):
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    stated = {name: ParameterValue(given[name], value_type=kind) for name, kind in PARAMETERS.items()
              if given[name].perform(context)}
    return [Node(
        package="flowpose_ros", executable="estimator_node", name="flowpose", namespace=given["namespace"],
        parameters=[given["params_file"], stated],
        remappings=[("image", given["image"]), ("image/compressed", [given["image"], "/compressed"]),
                    ("camera_info", given["camera_info"]), ("depth", given["depth"]),
                    ("detections", given["detections"]), ("masks", given["masks"])],
        respawn=given["respawn"], respawn_delay=2.0, output="screen")]
