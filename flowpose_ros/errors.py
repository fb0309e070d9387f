"""The errors this package raises on purpose; each message says what, which, expected and got."""


class FlowposeError(Exception):
    """Base of every error that a user can cause and mend."""


class GeometryError(FlowposeError):
    """A transform, an intrinsics matrix or a set of points is unusable."""


class MeshError(FlowposeError):
    """A mesh file is missing, broken, empty, or outside the limits."""


class CatalogueError(FlowposeError):
    """The folder of objects is missing, or an object in it is unknown or inconsistent."""


class WeightsError(FlowposeError):
    """A weights file is missing, not safetensors, of another hash or of other shapes."""


class FrameError(FlowposeError):
    """An image, a depth image or the intrinsics of a frame are unusable."""


class DetectionError(FlowposeError):
    """A detection cannot be used: box not finite, outside the image, unknown class."""


class DatasetError(FlowposeError):
    """A BOP dataset, a targets file, a detections file or a result file is unusable."""


class BagError(FlowposeError):
    """A bag is missing, truncated, or lacks a needed topic."""


class MemoryShortageError(FlowposeError):
    """A device has no memory left even for a batch of one."""


class DeviceLostError(FlowposeError):
    """A device no longer answers in this process."""


class OptionError(FlowposeError):
    """An option is out of its range or contradicts another; `option` is its name."""

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")
        self.option, self.problem = option, problem
