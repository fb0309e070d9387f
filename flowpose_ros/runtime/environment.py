"""Where the package's shared files lie, and the environment for ROS programs that talk on this machine alone."""

import os
from pathlib import Path


def share_folder():
    """Folder with package.xml, config/ and launch/: the source tree, or share/flowpose_ros of an installation."""
    for folder in Path(__file__).resolve().parents:
        for candidate in (folder, folder / "share" / "flowpose_ros"):
            if (candidate / "package.xml").is_file():
                return candidate
    raise FileNotFoundError(f"no package.xml of flowpose_ros above {__file__}: the installation is incomplete")


def local_ros_environment():
    """Environment for child processes of the demo and the tests; what the user has set wins.

    Discovery stays on this machine. The Fast DDS profile makes room for images: with the default
    0.5 MB of shared memory best-effort 640 x 480 images are lost.
    """
    defaults = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTDDS_DEFAULT_PROFILES_FILE": str(share_folder() / "config" / "fastdds_profile.xml"),
        "PYTHONUNBUFFERED": "1",
    }
    return {**defaults, **os.environ}


def private_ros_environment():
    """As `local_ros_environment`, on a domain that is not the user's: no TF and no /clock of these programs reaches a
    robot. Domains below 102 are safe on Linux."""
    users, own = int(os.environ.get("ROS_DOMAIN_ID") or 0), 1 + os.getpid() % 100
    private = {"ROS_DOMAIN_ID": str(own if own != users else 101), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    if os.environ.get("ROS_DISTRO") == "humble":  # which does not know the range
        private["ROS_LOCALHOST_ONLY"] = "1"
    return {**local_ros_environment(), **private}
