#!/usr/bin/env bash
# The distribution and the workspace, then whatever is asked for.
set -e
source "/opt/ros/$ROS_DISTRO/setup.bash"
source /workspace/install/setup.bash
exec "$@"
