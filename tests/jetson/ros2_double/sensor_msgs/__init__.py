"""sensor_msgs of ROS 2."""
