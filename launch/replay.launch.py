"""A bag through the estimator; with `dataset`, scored against the scene that the bag was recorded from.

ros2 launch flowpose_ros replay.launch.py bag:=kitchen_bag objects:=/path/to/objects \
    image:=/camera/color/image_raw camera_info:=/camera/color/camera_info detections:=/yolo/detections

The bag plays at its own pace and a slow machine skips images; `flowpose replay` waits for each. Arguments of
estimator.launch.py are handed on: mode:=track, params_file:=...
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, Shutdown
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("flowpose_ros"))

ARGUMENTS = {
    "bag": (None, "bag to play"),
    "objects": (None, "folder of the objects"),
    "image": ("image", "topic of the colour images in the bag"),
    "camera_info": ("camera_info", "topic of their calibration"),
    "depth": ("depth", "topic of depth images registered to colour"),
    "detections": ("detections", "topic of vision_msgs/Detection2DArray"),
    "play_rate": ("1.0", "speed of the bag"),
    "delay": ("10.0", "seconds until the bag begins, in which the node loads its objects"),
    "dataset": ("", "dataset in BOP layout to score against; empty scores nothing"),
    "split": ("test", "folder of the split in it"),
    "scene": ("-1", "number of the scene in it"),
    "stream_rate": ("10.0", "`rate` of the bop_player_node that the bag was recorded from"),
    "scores": ("scores.json", "where the scores are written"),
}


def generate_launch_description():
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    play = ExecuteProcess(cmd=["ros2", "bag", "play", given["bag"], "--clock", "--rate", given["play_rate"],
                               "--delay", given["delay"]], output="screen")
    topics = {name: given[name] for name in ("objects", "image", "camera_info", "depth", "detections")}
    estimator = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "estimator.launch.py")),
        launch_arguments={**topics, "use_sim_time": "true"}.items())
    evaluator = Node(
        package="flowpose_ros", executable="evaluator_node", output="screen", on_exit=[Shutdown()],
        condition=IfCondition(PythonExpression(["'", given["dataset"], "' != ''"])),
        parameters=[{"dataset": ParameterValue(given["dataset"], value_type=str),
                     "split": ParameterValue(given["split"], value_type=str),
                     "scene": ParameterValue(given["scene"], value_type=int),
                     "rate": ParameterValue(given["stream_rate"], value_type=float),
                     "output": ParameterValue(given["scores"], value_type=str)}],
        remappings=[("poses", "flowpose/poses"), ("detections", given["detections"])])
    declarations = [DeclareLaunchArgument(name, description=text) if default is None else
                    DeclareLaunchArgument(name, default_value=default, description=text)
                    for name, (default, text) in ARGUMENTS.items()]
    # The estimator first: its launch file sets the Fast DDS profile for all that follow.
    return LaunchDescription([*declarations, estimator, evaluator, play])
