"""What to keep to so that nothing is lost to a best-effort listener."""

SETTLE_S = 0.5
"""Seconds from seeing every listener to the first message: until discovery has gone both ways, a
best-effort listener loses what it is sent."""

RESEND_S = 5.0
"""A frame without an answer is sent again after so many seconds; an estimator that has it already
takes the second one for stale."""
