"""Zero-shot 6D pose of objects known only by their CAD mesh, as a ROS 2 package."""
