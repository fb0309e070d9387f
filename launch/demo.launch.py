"""A scene in BOP layout through the estimator, shown in RViz.

ros2 launch flowpose_ros demo.launch.py dataset:=/path/to/bop/ycbv scene:=48
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("flowpose_ros"))

ARGUMENTS = {
    "dataset": (str(SHARE / "demo"), "folder of a dataset in BOP layout with models/"),
    "split": ("test", "folder of the split in it"),
    "scene": ("-1", "number of the scene; -1 plays all of the split"),
    "rate": ("10.0", "images per second of the stream's clock"),
    "loop": ("true", "begin again after the last image"),
    "lockstep": ("true", "wait for the answer to an image before the next one"),
    "rviz": ("true", "show images and poses in RViz"),
}


def generate_launch_description():
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    types = {"dataset": str, "split": str, "scene": int, "rate": float, "loop": bool, "lockstep": bool}
    player = Node(
        package="flowpose_ros", executable="bop_player_node", output="screen",
        parameters=[{name: ParameterValue(given[name], value_type=kind) for name, kind in types.items()}],
        remappings=[("poses", "flowpose/poses")])
    estimator = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "estimator.launch.py")),
        launch_arguments={"objects": [given["dataset"], "/models"], "use_sim_time": "true"}.items())
    rviz = Node(
        package="rviz2", executable="rviz2", condition=IfCondition(given["rviz"]),
        arguments=["-d", str(SHARE / "config" / "flowpose.rviz")], parameters=[{"use_sim_time": True}])
    declarations = [DeclareLaunchArgument(name, default_value=default, description=text)
                    for name, (default, text) in ARGUMENTS.items()]
    # The estimator first: its launch file sets the Fast DDS profile for all that follow.
    return LaunchDescription([*declarations, estimator, player, rviz])
