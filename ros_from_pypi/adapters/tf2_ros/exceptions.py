"""The exceptions of tf2, under their upstream names."""


class TransformException(Exception):
    """Base of every error of a look-up."""


class LookupException(TransformException):
    """A frame of the look-up has never been heard of."""


class ConnectivityException(TransformException):
    """Both frames are known, but no chain of transforms joins them."""


class ExtrapolationException(TransformException):
    """The time asked for lies outside the transforms received so far."""


class InvalidArgumentException(TransformException):
    """A frame name is empty."""


class TimeoutException(TransformException):
    """The transform did not arrive in time."""
