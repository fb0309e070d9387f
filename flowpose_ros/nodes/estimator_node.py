"""The program estimator_node; the node itself is in estimator.py."""

from __future__ import annotations

import sys

from flowpose_ros.runtime.stop_request import StopRequest


def main(args: list[str] | None = None) -> int:
    """Run the node; see docs/node.md for topics and parameters."""
    stop = StopRequest()  # before the imports: they take seconds, and an interrupt in them could get lost
    from flowpose_ros.nodes.estimator import EstimatorNode
    from flowpose_ros.nodes.spin import run

    return run(EstimatorNode, args, stop)


if __name__ == "__main__":
    sys.exit(main())
