"""sensor_msgs_py for machines without a ROS 2 distribution: only `point_cloud2`."""
