"""The estimator as a lifecycle node: images and 2D detections of one camera in, 6D poses on TF out."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo
from tf2_ros import TransformBroadcaster

from flowpose_ros.errors import CatalogueError, DeviceLostError, FlowposeError, FrameError, OptionError
from flowpose_ros.estimation.batches import is_memory_shortage
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.estimator_options import EstimatorOptions
from flowpose_ros.estimation.memory import give_back_memory
from flowpose_ros.nodes.diagnostics import FRAME_LOST, Health, diagnostics
from flowpose_ros.nodes.inputs import CameraInputs
from flowpose_ros.nodes.outputs import Outputs
from flowpose_ros.nodes.parameters import declare_options, read_options, undeclared
from flowpose_ros.nodes.pipeline import FramePipeline, Processed
from flowpose_ros.nodes.services import Services
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.objects.listing import NOT_READ, overlooked
from flowpose_ros.runtime.device import check_device
from flowpose_ros.runtime.drop_log import DropLog
from flowpose_ros.runtime.frame_assembler import IMAGE_LEFT_OUT, AssemblerOptions, Bundle
from flowpose_ros.runtime.node_options import NodeOptions
from flowpose_ros.runtime.threads import share_threads
from flowpose_ros.runtime.timing import Rate, StageTimes
from flowpose_ros.runtime.watchdog import Watchdog
from flowpose_ros.runtime.worker import Worker
from flowpose_ros.runtime.workers import Workers
from flowpose_ros.tracking.tracker import TrackerOptions

STOP_S = 3.0
"""How long a stopping node waits for the frame in work, seconds."""
RELOAD_S = 60.0
"""How long a node that is to read its objects again does, seconds."""
SAME_CLOCK_S = 3600.0
"""An image that is older is stamped by another clock; its latency says nothing."""

IMAGE_LOST = ("replaced_by_newer", "switched_off", *FRAME_LOST, "stopped", "worker_died")
"""Reasons that each stand for one image without an answer."""

OPTION_CLASSES = (NodeOptions, AssemblerOptions, EstimatorOptions, TrackerOptions)


class EstimatorNode(LifecycleNode):
    """Configure loads objects and weights and warms up; active listens, estimates and publishes.

    The executor's thread only assembles frames; a worker thread does the rest, newest frame first. In mode "track" it
    follows what is known in every frame, and a second worker absorbs detections.
    """

    finished = False

    def __init__(self) -> None:
        super().__init__("flowpose")
        declare_options(self, *OPTION_CLASSES)
        for name in undeclared(self):
            self.get_logger().warning(f"parameter {name}: not known, so it changes nothing")
        self.add_on_set_parameters_callback(self._change_parameters)
        self._stopping: Callable[[], bool] = lambda: False
        self.options = read_options(self, NodeOptions)
        self.drops = DropLog()
        self._received = self._answered = 0
        self._memory_short = {"frames": False, "detections": False}
        self._info: CameraInfo | None = None
        self._epoch = 0
        self._pipeline: FramePipeline | None = None
        self._outputs: Outputs | None = None
        self._inputs: CameraInputs | None = None
        self._workers: Workers | None = None
        self._left: Workers | None = None
        self._failure = FlowposeError("the node could not be activated; the log above says why")
        self._lost: DeviceLostError | None = None
        self._requests = Services(self)
        self._broadcaster = TransformBroadcaster(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On the steady clock: with simulated time a timer would wait for a /clock that never comes.
        self._timer = self.create_timer(1.0, self._each_second, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def begin(self, stopping: Callable[[], bool]) -> None:
        """Configure and activate, unless a lifecycle manager is to do so; raises FlowposeError."""
        self._stopping = stopping
        if not self.options.autostart:
            return
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise self._failure

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self.load()
            self._outputs = Outputs(self, self._pipeline.catalogue, self._broadcaster)
        except Exception as error:
            return self._failed("configure", error)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._start_working()
        except Exception as error:
            self._stop_working()
            return self._failed("activate", error)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if not self._stop_working():
            self.get_logger().warning(f"the frame in work did not end within {STOP_S:.0f} s")
        self.forget_instances()  # whenever it goes on, they are elsewhere
        self._outputs.clear()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._outputs.close()
        self._outputs = self._pipeline = None
        give_back_memory()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_working()
        return TransitionCallbackReturn.SUCCESS

    def _failed(self, transition: str, error: Exception) -> TransitionCallbackReturn:
        """Keep and log why; an exception that left a transition would be swallowed by rclpy."""
        known = isinstance(error, FlowposeError)
        self._failure = error if known else FlowposeError(f"{type(error).__name__}: {error}")
        self.get_logger().error(f"cannot {transition}: {self._failure}")
        return TransitionCallbackReturn.FAILURE

    def close(self) -> bool:
        """Stop for good, and tell what was left out since it was told last; whether the worker has ended."""
        ended = self._stop_working()
        for line in self.drops.news(math.inf):
            self.get_logger().warning(line)
        return ended

    # What the services ask for

    def load(self) -> None:
        """Read the objects and the weights, and make the templates; raises FlowposeError."""
        if not self.options.objects:
            raise CatalogueError("objects: expected the folder of the objects, got an empty parameter")
        labels = [label.strip() for label in self.options.labels.split(",") if label.strip()]
        catalogue = Catalogue.load(self.options.objects, self.options.object_unit or None, labels or None)
        if left := overlooked(Path(self.options.objects)):
            self.get_logger().warning(f"not read: {', '.join(left)}: {NOT_READ}")
        options = read_options(self, EstimatorOptions)
        estimator = Estimator(catalogue, options)
        estimator.warm_up(self._progress)
        self._pipeline = FramePipeline(catalogue, estimator, self.options, self.drops, options.depth,
                                       read_options(self, TrackerOptions))
        if self._outputs is not None:
            self._outputs.close()
            self._outputs = Outputs(self, catalogue, self._broadcaster)

    @property
    def active(self) -> bool:
        """Whether it listens and estimates."""
        return self._workers is not None

    def reload(self) -> None:
        """Load again once what is in work is answered; raises FlowposeError, and then the old objects stay in use."""
        if self._pipeline is None:
            raise FlowposeError("expected a configured node; configuring reads the objects")
        active = self.active
        self._close_inputs()
        if active and not self._workers.wait_idle(RELOAD_S):
            self._open_inputs()
            raise FlowposeError(f"the frame in work did not end within {RELOAD_S:.0f} s")
        try:
            self._stop_working()
            self.load()
        finally:
            if active:
                self._start_working()

    def forget_instances(self) -> None:
        """Number the instances anew, and forget what is followed."""
        if self._pipeline is not None:
            self._pipeline.forget()

    # Frames: the executor's thread offers, the worker's thread does the rest

    def _offer(self, bundle: Bundle) -> None:
        if not self._requests.wants_frame():
            self.drops.add("switched_off", "~/enable switches estimation on")
        elif self._workers["frames"].slot.put(bundle) is not None:
            self.drops.add("replaced_by_newer", "the estimator is slower than the camera")

    def _offer_detections(self, bundle: Bundle) -> None:
        if self._requests.enabled:
            # Newer detections show the same objects: the older ones are no loss.
            self._workers["detections"].slot.put(bundle)

    def _process(self, bundle: Bundle) -> Processed:
        return self._pipeline.process(bundle)

    def _publish(self, processed: Processed) -> None:
        self._outputs.publish(processed, self.options)
        stamp = Time.from_msg(processed.header.stamp, self.get_clock().clock_type)
        latency = (self.get_clock().now() - stamp).nanoseconds * 1e-9
        same_clock = 0 <= latency < SAME_CLOCK_S
        self._times.add(processed.timings | ({"latency": latency} if same_clock else {}))
        self._rate.tick()
        self._answered += 1
        self._memory_short["frames"] = processed.memory_short
        if processed.estimates or self.options.mode != "track":
            self._watchdog.result(time.monotonic())

    def _absorb(self, bundle: Bundle) -> bool:
        return self._pipeline.absorb(bundle)

    def _absorbed(self, memory_short: bool) -> None:
        self._memory_short["detections"] = memory_short
        self._watchdog.result(time.monotonic())

    def _report(self, bundle: Bundle, error: Exception) -> None:
        self._memory_short["frames"] = short = is_memory_shortage(error)
        reason = ("frame_unusable" if isinstance(error, FrameError) else
                  "frame_out_of_memory" if short else "frame_failed")
        self.drops.add(reason, describe(error))
        self._check_device(error)

    def _report_absorbed(self, bundle: Bundle, error: Exception) -> None:
        self._memory_short["detections"] = is_memory_shortage(error)
        # The image of an unusable frame has been counted where it was to be followed.
        if not isinstance(error, FrameError):
            self.drops.add("detections_failed", describe(error))
            self._check_device(error)

    def _check_device(self, error: Exception) -> None:
        """After an unexpected error: whether the device can still be used."""
        pipeline = self._pipeline  # cleaning up may take it away meanwhile
        if not isinstance(error, FlowposeError) and pipeline is not None:
            try:
                check_device(pipeline.estimator.networks.device)
            except DeviceLostError as lost:
                self._lost = lost

    def _lose(self, bundle: Bundle) -> None:
        self.drops.add("stopped", "the node was deactivated or ended")

    # Housekeeping

    def _start_working(self) -> None:
        """Begin to listen and to work; raises FlowposeError while a frame from before is still in work."""
        if self._left is not None and self._left.alive:
            raise FlowposeError("the frame that was in work when the node was deactivated has not ended yet")
        self._times, self._rate = StageTimes(), Rate()
        self._watchdog = Watchdog(self.options.watchdog_s, time.monotonic())
        jobs = self._jobs()
        share_threads(len(jobs), self.options.threads)
        self._workers = Workers(jobs)
        self._workers.start()
        self._open_inputs()
        self.get_logger().info(f"active: {len(self._pipeline.catalogue)} objects: "
                               f"{', '.join(self._pipeline.catalogue.labels)}")

    def _open_inputs(self) -> None:
        self._inputs = CameraInputs(self, read_options(self, AssemblerOptions),
                                    read_options(self, EstimatorOptions).depth, self.options.masks,
                                    self.options.image_transport, self._offer,
                                    self._offer_detections if self.options.mode == "track" else None, self._info, self._epoch)

    def _close_inputs(self) -> None:
        """Listen no more, and count what waited; the calibration and the count of jumps back are kept."""
        if self._inputs is not None:
            self._received += self._inputs.images
            self._info, self._epoch = self._inputs.info, self._inputs.epoch
            self.drops.take_over(self._inputs.close())
            self._inputs = None

    def _jobs(self) -> dict[str, Callable[[], Worker]]:
        """What makes the worker of each stream."""
        jobs = {"frames": lambda: Worker(self._process, self._publish, self._report, self._lose)}
        if self.options.mode == "track":
            jobs["detections"] = lambda: Worker(self._absorb, self._absorbed, self._report_absorbed)
        return jobs

    def _stop_working(self) -> bool:
        """Listen and work no more; whether what was in work has ended."""
        self._close_inputs()
        if self._workers is not None:
            self._left, self._workers = self._workers, None
            self._left.stop(STOP_S)
        return self._left is None or not self._left.alive

    def _each_second(self) -> None:
        if self._lost is not None:  # ends the process, with an exit code that a supervisor understands
            raise self._lost
        for line in self.drops.news(time.monotonic()):
            self.get_logger().warning(line)
        if not self.active:
            return
        if not self._workers.complete:
            self.get_logger().error("a worker died; a new one takes over")
            if "frames" in self._workers.start():
                self.drops.add("worker_died", "the thread ended in the middle of a frame")
        if not self._requests.enabled:
            self._watchdog.result(time.monotonic())  # none is awaited
        problem = self._watchdog.complain(time.monotonic(), self._inputs.status(), self._workers.busy,
                                          self._all_drops())
        if problem:
            self.get_logger().warning(problem)
            self._outputs.clear()
        health = Health(self._watchdog.problem, self._rate.hertz(), self._times.summary(), self._images(),
                        self._all_drops(), self._pipeline.track_counts(), any(self._memory_short.values()),
                        self._requests.enabled)
        self._diagnostics.publish(diagnostics(self.get_clock().now().to_msg(), self.get_name(), health))

    def _images(self) -> tuple[int, int, int]:
        """How many images came, were answered and were dropped; the rest waits or is in work."""
        drops = self._all_drops()
        dropped = sum(drops[reason] for reason in (*IMAGE_LOST, *IMAGE_LEFT_OUT))
        return self._received + self._inputs.images, self._answered, dropped

    def _all_drops(self) -> Counter[str]:
        return Counter(self.drops.counts()) + self._inputs.drops()

    def _progress(self, stage: str, share: float) -> None:
        if self._stopping():
            raise FlowposeError(f"stopped while at {stage}")
        self.get_logger().info(f"{stage}: {share:.0%}", throttle_duration_sec=2.0)

    def _change_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        if all(parameter.name.startswith("qos_overrides.") for parameter in parameters):
            return SetParametersResult(successful=True)  # declared with each publisher and subscription
        try:
            node, assembly, estimation, tracking = (read_options(self, c, tuple(parameters)) for c in OPTION_CLASSES)
        except OptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.options = node
        if self._pipeline is not None:
            self._pipeline.change(node, estimation, tracking)
        if self.active:
            self._watchdog.patience_s = node.watchdog_s
            self._inputs.change(assembly)
        return SetParametersResult(successful=True)


def describe(error: Exception) -> str:
    """An exception in words."""
    return f"{type(error).__name__}: {error}"
