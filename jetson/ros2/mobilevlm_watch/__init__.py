"""The ROS 2 node around `mobilevlm.runtime.camera`."""
