"""std_msgs of ROS 2."""
