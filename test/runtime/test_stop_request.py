"""A request to stop, in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, time
from flowpose_ros.runtime import stop_request

stop_request.GRACE_S = 0.3
stop = stop_request.StopRequest()
if sys.argv[1] == "before":
    stop.take_time()
os.kill(os.getpid(), signal.SIGINT)
if sys.argv[1] == "after":
    stop.take_time()
time.sleep(1)
print("done, stopping:", stop())
"""


@pytest.mark.parametrize("when, told", [("never", ""), ("before", "done, stopping: True\n"), ("after", "done, stopping: True\n")])
def test_what_takes_its_time_is_not_ended_in_the_middle(when, told):
    ended = subprocess.run([sys.executable, "-c", PROGRAM, when], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (0, told)
