"""A stand-in for the part of rclpy that jetson/ros2 uses: names, arguments and defaults are those of ROS 2 Humble.

Topics are local: `publish_to` puts messages into a subscription's queue, which is as deep as its QoS says, and `spin`
hands them to the callbacks.
"""

from . import state


def init(*, args=None, context=None, domain_id=None, signal_handler_options=None):
    assert not state.is_running, "rclpy.init was called twice"
    state.is_running = True
    state.parameters = state.read_arguments(args or [])


def try_shutdown(*, context=None):
    state.is_running = False


def spin(node, executor=None):
    from .executors import ExternalShutdownException

    assert state.is_running
    while node.take_one():
        pass
    raise ExternalShutdownException
