"""Puts the messages of one camera together into frames by their stamps. Knows nothing of ROS.

Every queue is bounded and loses its oldest stamp first; an image's stamp that jumps back (a bag that loops, a
clock that was set) forgets everything later than it, so that no queue can fill up with messages from
a future that never comes. Detections come in any order: several detectors may share a topic.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from flowpose_ros.options import Options, option


class Stream(str, Enum):
    """The inputs of a camera."""

    IMAGE = "image"
    INFO = "camera_info"
    DEPTH = "depth"
    DETECTIONS = "detections"
    MASKS = "masks"


IMAGE_LEFT_OUT = ("image_without_stamp", "stale", "same_stamp", "superseded", "no_camera_info", "no_detections",
                  "no_depth", "no_masks", "jump_back")
"""Reasons in `FrameAssembler.drops` that each stand for one image that did not become part of a frame."""
EXTRAS = (Stream.DEPTH, Stream.MASKS)
"""What a frame has where it comes, by a setting "off", "auto" or "on"."""


@dataclass(frozen=True)
class AssemblerOptions(Options):
    """How far stamps may differ and how long parts are kept."""

    slop_s: float = option(0.015, "largest difference of stamps within one frame, seconds; "
                           "keep it below half the time between images", low=0.0, high=1.0)
    queue_size: int = option(30, "messages kept per input while their partners are awaited",
                             low=1, high=1000)
    jump_back_s: float = option(0.1, "an image's stamp this much older than its predecessor's clears the state, seconds",
                                low=0.0, high=60.0)
    patience_s: float = option(1.0, "images go on without depth or masks that are on 'auto' once these have been "
                               "silent for so long, seconds", low=0.0, high=60.0)


@dataclass(frozen=True)
class Bundle:
    """The messages of one frame; detections, depth and masks are None where there are none.

    epoch counts the jumps back so far: state kept from another epoch is void.
    """

    stamp_ns: int
    image: Any
    info: Any
    detections: Any
    depth: Any = None
    masks: Any = None
    epoch: int = 0


class FrameAssembler:
    """Matches images with their detections, depth and masks (nearest stamp) and the latest camera_info.

    detections: whether a frame needs them; else every image makes one as soon as the rest is there.
    depth, masks: "off" never waits for them, "on" always, "auto" as long as they are `published` and have not been
    silent for the patience. The newest complete frame wins; `drops` counts, by reason, every image
    that did not become part of a frame, every message without a stamp, and detections that found no image or came
    after newer ones. `options` may be replaced. Not thread-safe.
    """

    def __init__(self, options: AssemblerOptions = AssemblerOptions(), depth: str = "auto",
                 detections: bool = True, masks: str = "off") -> None:
        self.drops: Counter[str] = Counter()
        self.received: Counter[Stream] = Counter()
        self.published = set(EXTRAS)
        self.epoch = 0
        self._detections = detections
        self.options = options
        self._modes = {Stream.DEPTH: depth, Stream.MASKS: masks}
        self.info: Any = None
        """The latest camera_info; one that came before this assembler was there may be given."""
        self._queues = {stream: _Queue() for stream in Stream if stream is not Stream.INFO}
        self._newest: dict[Stream, int] = {}
        self._taken: dict[Stream, int] = {}
        self._met: set[int] = set()
        self._first_image: int | None = None

    def add(self, stream: Stream, stamp_ns: int, message: Any) -> Bundle | None:
        """Take one message; the newest frame that it completes, if any."""
        self.received[stream] += 1
        if self._modes.get(stream) == "off" or stream is Stream.DETECTIONS and not self._detections:
            return None
        if stream is Stream.INFO:  # calibration hardly changes, and some publish it once or unstamped
            self.info = message
            return self._complete()
        if stamp_ns <= 0:
            self.drops[f"{stream.value}_without_stamp"] += 1
            return None
        if stream is Stream.IMAGE and stamp_ns < self._newest.get(stream, stamp_ns) - nanoseconds(self.options.jump_back_s):
            self._jump_back(stamp_ns)
        self._newest[stream] = max(stamp_ns, self._newest.get(stream, stamp_ns))
        if stamp_ns <= self._taken.get(stream, 0):
            self._drop(stream, "stale")
            return None
        if stream is Stream.IMAGE and self._first_image is None:
            self._first_image = stamp_ns
        queue = self._queues[stream]
        queue.insert(stamp_ns, message)
        self._note_meeting(stream, stamp_ns)
        bundle = self._complete()
        while len(queue) > self.options.queue_size:
            if stream is Stream.IMAGE:
                self._drop(stream, self._missing(queue.stamps[0]))
            elif stream is Stream.DETECTIONS and queue.stamps[0] not in self._met:
                self.drops["detections_unmatched"] += 1
            queue.remove_first()
        return bundle

    @property
    def _slop(self) -> int:
        return nanoseconds(self.options.slop_s)

    def _note_meeting(self, stream: Stream, stamp: int) -> None:
        """Remember which detections have met an image, whatever else that may lack."""
        images, detections = self._queues[Stream.IMAGE], self._queues[Stream.DETECTIONS]
        if stream is Stream.DETECTIONS and images.nearest(stamp, self._slop) is not None:
            self._met.add(stamp)
        elif stream is Stream.IMAGE and (d := detections.nearest(stamp, self._slop)) is not None:
            self._met.add(detections.stamps[d])
        self._met &= set(detections.stamps)

    def queued(self, stream: Stream) -> int:
        """How many messages of an input wait for their partners."""
        return len(self._queues[stream])

    def missing(self) -> Counter[str]:
        """What the images that wait still lack, by the reasons of `drops`."""
        return Counter(self._missing(stamp) for stamp in self._queues[Stream.IMAGE].stamps)

    def _complete(self) -> Bundle | None:
        """The newest image that has all it needs: camera_info, detections and, where awaited, depth and masks."""
        images = self._queues[Stream.IMAGE]
        if self.info is None:
            return None
        for i, detected_ns, detections in self._detected():
            stamp = images.stamps[i]
            depth, masks = (self._queues[extra].item_at(stamp, self._slop) for extra in EXTRAS)
            if any(found is None and self._may_come(extra, stamp) for extra, found in zip(EXTRAS, (depth, masks))):
                continue
            bundle = Bundle(stamp, images.items[i], self.info, detections, depth, masks, self.epoch)
            self._take(stamp, detected_ns)
            return bundle
        return None

    def _detected(self) -> Iterator[tuple[int, int, Any]]:
        """Indices of images that have their detections, newest first, with these and their stamp."""
        images, detections = self._queues[Stream.IMAGE], self._queues[Stream.DETECTIONS]
        if not self._detections:
            yield from ((i, 0, None) for i in reversed(range(len(images))))
            return
        for d in reversed(range(len(detections))):
            i = images.nearest(detections.stamps[d], self._slop)
            if i is not None:
                yield i, detections.stamps[d], detections.items[d]

    def _may_come(self, extra: Stream, stamp: int) -> bool:
        """Whether depth or masks of an image are worth waiting for."""
        if self._modes[extra] != "auto":
            return self._modes[extra] == "on"
        since = self._newest.get(extra, self._first_image)
        return extra in self.published and 0 <= stamp - since < nanoseconds(self.options.patience_s)

    def _take(self, image_stamp: int, detections_stamp: int) -> None:
        """Remove a completed frame and everything older."""
        older = [self._missing(s) for s in self._queues[Stream.IMAGE].stamps if s < image_stamp]
        twins = self._queues[Stream.IMAGE].stamps.count(image_stamp) - 1
        for reason in (*older, *twins * ["same_stamp"]):
            self._drop(Stream.IMAGE, reason)
        self._taken[Stream.IMAGE], self._taken[Stream.DETECTIONS] = image_stamp, detections_stamp
        self._queues[Stream.IMAGE].remove_until(image_stamp)
        self._queues[Stream.DETECTIONS].remove_until(detections_stamp)
        for extra in EXTRAS:
            self._queues[extra].remove_until(image_stamp - self._slop - 1)

    def _missing(self, image_stamp: int) -> str:
        """What an image still lacks, or that a newer one was preferred."""
        if self.info is None:
            return "no_camera_info"
        if self._detections and self._queues[Stream.DETECTIONS].nearest(image_stamp, self._slop) is None:
            return "no_detections"
        for extra in EXTRAS:
            if self._modes[extra] != "off" and self._queues[extra].nearest(image_stamp, self._slop) is None:
                return f"no_{extra.value}"
        return "superseded"

    def _jump_back(self, stamp: int) -> None:
        """Forget what is later than a stamp that jumped back."""
        self.epoch += 1
        last = stamp + self._slop
        for stream, queue in self._queues.items():
            for _ in range(queue.remove_after(last)):
                self._drop(stream, "jump_back")
        self._newest = {stream: min(newest, stamp) for stream, newest in self._newest.items()}
        self._taken = {stream: min(taken, stamp - self._slop - 1) for stream, taken in self._taken.items()}
        if self._first_image is not None:
            self._first_image = min(self._first_image, stamp)

    def _drop(self, stream: Stream, reason: str) -> None:
        if stream is Stream.IMAGE:  # a frame is lost with its image; other parts are counted through it
            self.drops[reason] += 1
        elif stream is Stream.DETECTIONS and reason == "stale":
            self.drops["detections_late"] += 1


def nanoseconds(seconds: float) -> int:
    """Seconds as stamps count them."""
    return round(seconds * 1e9)


class _Queue:
    """Messages in the order of their stamps."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.items: list[Any] = []

    def __len__(self) -> int:
        return len(self.stamps)

    def insert(self, stamp: int, item: Any) -> None:
        at = bisect.bisect_right(self.stamps, stamp)
        self.stamps.insert(at, stamp)
        self.items.insert(at, item)

    def nearest(self, stamp: int, slop: int) -> int | None:
        """Index of the nearest stamp within slop."""
        at = bisect.bisect_left(self.stamps, stamp)
        around = [i for i in (at - 1, at) if 0 <= i < len(self.stamps)]
        best = min(around, key=lambda i: abs(self.stamps[i] - stamp), default=None)
        return best if best is not None and abs(self.stamps[best] - stamp) <= slop else None

    def item_at(self, stamp: int, slop: int) -> Any:
        """The item of the nearest stamp within slop, or None."""
        at = self.nearest(stamp, slop)
        return None if at is None else self.items[at]

    def remove_first(self) -> None:
        del self.stamps[0], self.items[0]

    def remove_until(self, stamp: int) -> None:
        at = bisect.bisect_right(self.stamps, stamp)
        del self.stamps[:at], self.items[:at]

    def remove_after(self, stamp: int) -> int:
        at = bisect.bisect_right(self.stamps, stamp)
        removed = len(self.stamps) - at
        del self.stamps[at:], self.items[at:]
        return removed
