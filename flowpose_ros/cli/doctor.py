"""`flowpose doctor`: what is missing on this machine, and the command that mends it."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flowpose_ros.errors import FlowposeError
from flowpose_ros.runtime.environment import share_folder

OK, WARN, MISSING = "OK", "WARN", "MISSING"
MAKE_SETUP = "make setup"

PYTHONS = ((3, 10), (3, 12))
LIBRARIES = ("scipy", "yaml", "PIL", "tqdm", "trimesh", "safetensors", "rosbags")
SHARED_MEMORY_MB = 128  # four participants with the 32 MB segment of config/fastdds_profile.xml
FREE_DISK_GB = 1
ROS_MODULES = (
    "rclpy", "diagnostic_msgs.msg", "geometry_msgs.msg", "lifecycle_msgs.msg", "rosgraph_msgs.msg", "sensor_msgs.msg",
    "std_srvs.srv", "tf2_msgs.msg", "vision_msgs.msg", "visualization_msgs.msg", "tf2_ros", "cv_bridge",
    "sensor_msgs_py.point_cloud2",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What one check found; `mend` is the command for anything but OK."""

    subject: str
    status: str
    detail: str
    mend: str = ""

    def __str__(self):
        line = f"{self.status:<8}{self.subject:<14}{self.detail}"
        return line if self.status == OK else f"{line}\n{'':<22}-> {self.mend}"


def add_parser(subparsers):
    """Add the `doctor` subcommand."""
    text = "Check this machine: one line per part, with the command that mends what is wrong."
    epilog = "example: flowpose doctor\nexit code 1 when something needed is missing"
    parser = subparsers.add_parser("doctor", help=text, description=text, epilog=epilog)
    parser.set_defaults(func=run)


def run(args):
    """Print all findings; returns 1 when something needed is missing, otherwise 0."""
    findings = []
    for check in CHECKS:
        finding = check()
        print(finding, flush=True)
        findings.append(finding)
    return int(any(finding.status == MISSING for finding in findings))


def python():
    version = sys.version.split()[0]
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("Python", WARN, f"{version}; tested with 3.10 to 3.12", "make clean; make setup PYTHON=python3.11")
    return Finding("Python", OK, version)


def torch():
    module, problem = load("torch")
    if problem:
        return Finding("torch", MISSING, problem, MAKE_SETUP)
    if module.cuda.is_available():
        return Finding("torch", OK, f"{module.__version__} on {module.cuda.get_device_name()}")
    if shutil.which("nvidia-smi"):
        base = module.__version__.split("+")[0]
        mend = f"make clean; TORCH_SPEC=torch=={base} make setup"
        return Finding("torch", WARN, f"{module.__version__} does not see the NVIDIA GPU", mend)
    return Finding("torch", OK, f"{module.__version__} on {module.get_num_threads()} CPU threads")


def open3d():
    module, problem = load("open3d")
    if problem and "libusb" in problem:
        return Finding("Open3D", MISSING, problem, "sudo apt-get install libusb-1.0-0")
    if problem:
        return Finding("Open3D", MISSING, problem, MAKE_SETUP)
    return Finding("Open3D", OK, module.__version__)


def opencv():
    module, problem = load("cv2")
    if problem:
        return Finding("OpenCV", MISSING, problem, MAKE_SETUP)
    return Finding("OpenCV", OK, module.__version__)


def libraries():
    problems = [problem for name in LIBRARIES if (problem := load(name)[1])]
    if problems:
        return Finding("libraries", MISSING, "; ".join(problems), MAKE_SETUP)
    return Finding("libraries", OK, ", ".join(LIBRARIES))


def opengl():
    """A context of its own process: a broken driver may take the process down with it."""
    code = "import numpy as np; np.infty = np.inf; import pyrender; pyrender.OffscreenRenderer(8, 8).delete()"
    environment = {"PYOPENGL_PLATFORM": "egl", **os.environ}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return Finding("OpenGL", OK, "pyrender draws without a display")
    reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    mend = "sudo apt-get install libegl1 libgl1 libgl1-mesa-dri; make setup"
    return Finding("OpenGL", WARN, f"{reason}; only the pyrender renderer needs it", mend)


def ros():
    problems = {name: problem for name in ROS_MODULES if (problem := load(name)[1])}
    distribution = os.environ.get("ROS_DISTRO")
    if not problems:
        return Finding("ROS 2", OK, f"distribution {distribution}" if distribution else "Python wheels")
    names = sorted({name.split(".")[0] for name in problems})
    mend = MAKE_SETUP
    if distribution:
        packages = " ".join(f"ros-{distribution}-{name.replace('_', '-')}" for name in names)
        mend = f"sudo apt-get install {packages}"
    return Finding("ROS 2", MISSING, f"cannot import {', '.join(names)}", mend)


def middleware():
    name = os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if "fastrtps" not in name:
        return Finding("middleware", OK, f"{name}; give it buffers large enough for images")
    profile = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE")
    mend = f"export FASTDDS_DEFAULT_PROFILES_FILE={share_folder() / 'config' / 'fastdds_profile.xml'}"
    if profile is None:
        return Finding("middleware", WARN, f"{name} with default buffers loses 640 x 480 images", mend)
    if not Path(profile).is_file():
        return Finding("middleware", MISSING, f"{name}: no profile at {profile}", mend)
    return Finding("middleware", OK, f"{name} with {profile}")


def weights():
    """Every shipped file that the registry lists is there and has the listed hash."""
    module, problem = load("flowpose_ros.networks.weights")
    if problem:
        return Finding("weights", MISSING, problem, MAKE_SETUP)
    folder = module.shipped_folder()
    mend = f"git checkout -- {folder}"
    try:
        names = sorted(json.loads((folder / module.REGISTRY).read_text()))
        for name in names:
            module.check_hash(folder / name)
    except (FlowposeError, OSError, ValueError) as error:
        return Finding("weights", MISSING, str(error), mend)
    return Finding("weights", OK, ", ".join(names))


def shared_memory():
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("shared memory", WARN, f"no {folder}: images go through sockets", "mount -t tmpfs tmpfs /dev/shm")
    free = shutil.disk_usage(folder).free // 2**20
    if free < SHARED_MEMORY_MB:
        mend = "rm /dev/shm/fastrtps_*; in a container: docker run --shm-size=1g"
        return Finding("shared memory", WARN, f"{free} MB free, {SHARED_MEMORY_MB} MB wanted", mend)
    return Finding("shared memory", OK, f"{free} MB free")


def disk():
    free = shutil.disk_usage(Path.home()).free / 2**30
    if free < FREE_DISK_GB:
        return Finding("disk", WARN, f"{free:.1f} GB free in {Path.home()}", "make room: templates are cached there")
    return Finding("disk", OK, f"{free:.0f} GB free in {Path.home()}")


CHECKS = (python, torch, open3d, opencv, libraries, opengl, ros, middleware, weights, shared_memory, disk)


def load(name):
    """The imported module, or None and why it cannot be imported (a missing shared library included)."""
    try:
        return importlib.import_module(name), None
    except (ImportError, OSError) as error:
        return None, f"{type(error).__name__}: {error}"
