"""Validated conversions between ROS messages and this package's records, one file per message family."""
