"""A BOP scene as a stream: which image has which stamp. Player and evaluator agree on it here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import BopDataset, ImageId
from flowpose_ros.options import Options, option

START_NS = 10_000_000_000_000
"""Stamp of the first image: not zero, which stands for no stamp, and with time before it for the longest introduction
(`answer_timeout_s`)."""


@dataclass(frozen=True)
class StreamOptions(Options):
    """Which scene is played, and how fast its clock runs."""

    dataset: str = option("", "folder of a dataset in BOP layout", runtime=False)
    split: str = option("test", "folder of the split in it", runtime=False)
    scene: int = option(-1, "number of the scene; -1 plays all of the split, one after the other",
                        low=-1, high=999_999, runtime=False)
    limit: int = option(0, "play the first so many images only; 0 plays all", low=0, high=10_000_000, runtime=False)
    rate: float = option(10.0, "images per second of the stream's own clock", low=0.01, high=1000.0, runtime=False)


class BopStream:
    """The images of a scene in order, each with a stamp; raises DatasetError when there are none."""

    def __init__(self, options: StreamOptions) -> None:
        if not options.dataset:
            raise DatasetError("dataset: expected a folder in BOP layout, got an empty parameter")
        self.dataset = BopDataset(Path(options.dataset), options.split)
        self.images = tuple(image_id for image_id in self.dataset.images
                            if options.scene in (-1, image_id.scene_id))[:options.limit or None]
        if not self.images:
            raise DatasetError(f"{options.dataset}/{options.split}: expected scene {options.scene}, "
                               f"got {sorted({image_id.scene_id for image_id in self.dataset.images})}")
        self._period_ns = round(1e9 / options.rate)

    def __len__(self) -> int:
        return len(self.images)

    def stamp_ns(self, index: int) -> int:
        """Stamp of the index-th image played; later rounds of a loop count on."""
        return START_NS + index * self._period_ns

    def stamp_before(self, count: int) -> int:
        """Stamp of the count-th showing of an image before its time: of no image of the stream."""
        return (count + 1) * self._period_ns

    def image_at(self, stamp_ns: int) -> ImageId | None:
        """The image of a stamp, or None where no image has it."""
        index, rest = divmod(stamp_ns - START_NS, self._period_ns)
        return self.images[index % len(self.images)] if rest == 0 and index >= 0 else None
