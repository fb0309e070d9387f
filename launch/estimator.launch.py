"""The estimator for one camera.

ros2 launch flowpose_ros estimator.launch.py objects:=/path/to/objects namespace:=camera \
    image:=color/image_raw camera_info:=color/camera_info depth:=aligned_depth_to_color/image_raw \
    detections:=/yolo/detections
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
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
    "mode": ("detect", "'detect' estimates every detection, 'track' follows what was detected"),
    "image_transport": ("raw", "'raw', or 'compressed' to listen to <image>/compressed"),
    "params_file": (str(SHARE / "config" / "estimator.yaml"), "parameters of the node"),
    "autostart": ("true", "configure and activate without a lifecycle manager"),
    "respawn": ("false", "start the node again 2 s after its process died"),
    "use_sim_time": ("false", "take the time from /clock"),
}


def generate_launch_description():
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    declarations = [DeclareLaunchArgument(name, description=text) if default is None else
                    DeclareLaunchArgument(name, default_value=default, description=text)
                    for name, (default, text) in ARGUMENTS.items()]
    estimator = Node(
        package="flowpose_ros", executable="estimator_node", name="flowpose", namespace=given["namespace"],
        parameters=[given["params_file"], {
            "objects": ParameterValue(given["objects"], value_type=str),
            "mode": ParameterValue(given["mode"], value_type=str),
            "image_transport": ParameterValue(given["image_transport"], value_type=str),
            "autostart": ParameterValue(given["autostart"], value_type=bool),
            "use_sim_time": ParameterValue(given["use_sim_time"], value_type=bool),
        }],
        remappings=[("image", given["image"]), ("image/compressed", [given["image"], "/compressed"]),
                    ("camera_info", given["camera_info"]), ("depth", given["depth"]),
                    ("detections", given["detections"]), ("masks", given["masks"])],
        respawn=given["respawn"], respawn_delay=2.0, output="screen")
    # Room for images in Fast DDS's shared memory; with the default, best-effort ones are lost.
    profile = SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", EnvironmentVariable(
        "FASTDDS_DEFAULT_PROFILES_FILE", default_value=str(SHARE / "config" / "fastdds_profile.xml")))
    return LaunchDescription([*declarations, profile, estimator])
