"""rclpy.node.Node: parameters that keep their type, publishers, subscriptions with a bounded queue, a logger."""

from collections import deque
from types import SimpleNamespace

from . import state
from .qos import HistoryPolicy, QoSProfile


class InvalidParameterTypeException(Exception):
    pass


class Node:
    def __init__(self, node_name, *, context=None, cli_args=None, namespace=None, use_global_arguments=True):
        self.name, self.queue = node_name, None

    def declare_parameter(self, name, value=None, descriptor=None, ignore_override=False):
        given = state.parameters.get(name, value)
        if type(given) is not type(value):  # a parameter's type is that of its default
            raise InvalidParameterTypeException(name)
        return SimpleNamespace(name=name, value=given)

    def create_publisher(self, msg_type, topic, qos_profile):
        assert isinstance(qos_profile, (QoSProfile, int))

        def publish(message):
            assert type(message) is msg_type
            state.published.append((topic, message))

        return SimpleNamespace(publish=publish)

    def create_subscription(self, msg_type, topic, callback, qos_profile):
        assert qos_profile.history is HistoryPolicy.KEEP_LAST
        self.queue, self.callback, self.msg_type = deque(maxlen=qos_profile.depth), callback, msg_type
        self.topic, self.qos = topic, qos_profile
        return SimpleNamespace(topic_name=topic)

    def take_one(self):
        """Hands the oldest message of the queue to the callback, after what has come meanwhile; False at the end."""
        if state.arriving:
            for message in state.arriving.pop(0):
                assert type(message) is self.msg_type
                self.queue.append(message)
        if not self.queue:
            return bool(state.arriving)
        self.callback(self.queue.popleft())
        return True

    def get_logger(self):
        return SimpleNamespace(warning=state.log.append, info=state.log.append, error=state.log.append)

    def destroy_node(self):
        self.queue = None
