"""A node of this package in a process of its own, as commands start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from flowpose_ros.errors import FlowposeError
from flowpose_ros.runtime.environment import local_ros_environment

STOP_S = 10.0
"""How long a node may take to end after it was asked to, seconds."""


class NodeProcess:
    """Runs `flowpose_ros.nodes.<name>` while the `with` block lasts; its output goes to a file.

    parameters: ROS parameters by name; remappings: topics by name; log: where the output goes; environment: of the
    process, by default `local_ros_environment`.
    """

    def __init__(self, name: str, log: Path, parameters: Mapping[str, object],
                 remappings: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.name, self.log, self._environment = name, log, environment
        # Written as JSON, which is YAML: a bare `on` or `8` would not stay a string.
        words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
        words += [word for key, value in (remappings or {}).items() for word in ("-r", f"{key}:={value}")]
        self._command = [sys.executable, "-m", f"flowpose_ros.nodes.{name}", "--ros-args", *words]
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> NodeProcess:
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            output = self.log.open("wb")
        except OSError as error:
            raise FlowposeError(f"{self.log}: expected a log file that can be written, got {error.strerror}") from None
        with output:
            self._process = subprocess.Popen(self._command, env=self._environment or local_ros_environment(), stdout=output,
                                             stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def number(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What the node has printed so far."""
        return self.log.read_text(errors="replace")

    def ended(self) -> bool:
        """Whether the node has ended by itself; raises FlowposeError, with its last line, if it failed."""
        code = self._process.poll()
        if code:
            last = self.output.strip().rpartition("\n")[2] or f"exit code {code}"
            raise FlowposeError(f"{self.name} failed: {last.removeprefix('error: ')} (log: {os.path.relpath(self.log)})")
        return code is not None
