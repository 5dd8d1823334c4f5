r"""Node that asks about the images of a topic: sensor_msgs/Image in, std_msgs/String with an event's JSON out.

    ros2 run mobilevlm_watch watch --ros-args -p engine:=DIR -p question:="Is the door open?" -p "choices:='yes,no'" \
        -r image:=/camera/image_raw

An answer is made inside the subscription's callback: its queue holds one message, so that the newest image is next.
"""

from __future__ import annotations

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import String

from mobilevlm.errors import UserError
from mobilevlm.runtime.camera.answer import ask, choices_of
from mobilevlm.runtime.camera.change_gate import ChangeGate
from mobilevlm.runtime.camera.event import Event
from mobilevlm.runtime.camera.frames import ArrayFrame
from mobilevlm.runtime.camera.hysteresis import Hysteresis
from mobilevlm.runtime.camera.watcher import Watcher
from mobilevlm.runtime.session import Session

from .image_message import pixels_of

_NEWEST = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
# Parameters and their defaults; 0 seconds is never.
_PARAMETERS = {"engine": "", "question": "", "choices": "", "hold": 1, "margin": 0.0, "at_least_every": 0.0}


class WatchNode(Node):
    """Subscribes to `image`, publishes to `events`.

    Raises:
        UserError: a parameter is missing or outside its range, or the bundle cannot be opened.
    """

    def __init__(self) -> None:
        super().__init__("mobilevlm_watch")
        values = {name: self.declare_parameter(name, default).value for name, default in _PARAMETERS.items()}
        for name in ("engine", "question"):
            if not values[name]:
                raise UserError(f"the parameter {name} is missing: --ros-args -p {name}:=…")
        choices, question = choices_of(values["choices"] or None), values["question"]
        self._session = session = Session(values["engine"])
        self._watcher = Watcher(
            lambda image: ask(session, question, image, choices),
            question,
            gate=ChangeGate(),
            hysteresis=Hysteresis(values["hold"], values["margin"]),
            sinks=[self._publish],
            at_least_every_s=values["at_least_every"] or None,
        )
        self._number, self._refused = 0, ""
        self._events = self.create_publisher(String, "events", 10)
        self.create_subscription(Image, "image", self._see, _NEWEST)

    def close(self) -> None:
        """Closes the bundle and the node."""
        self._session.close()
        self.destroy_node()

    def _see(self, message: Image) -> None:
        stamp = message.header.stamp
        try:
            frame = ArrayFrame(pixels_of(message), self._number, stamp.sec + stamp.nanosec * 1e-9)
        except UserError as error:  # one camera may publish what another does not
            if str(error) != self._refused:
                self._refused = str(error)
                self.get_logger().warning(self._refused)
            return
        self._number += 1
        self._watcher.see(frame)

    def _publish(self, event: Event) -> None:
        message = String()
        message.data = event.to_json()
        self._events.publish(message)


def main(args: list[str] | None = None) -> None:
    """Entry point of `ros2 run mobilevlm_watch watch`.

    Raises:
        SystemExit: with the sentence of a mistake that the user can correct.
    """
    rclpy.init(args=args)
    try:
        node = WatchNode()
        try:
            rclpy.spin(node)
        finally:
            node.close()
    except UserError as error:
        raise SystemExit(f"mobilevlm_watch: {error}") from None
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
