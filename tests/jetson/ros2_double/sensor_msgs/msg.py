"""sensor_msgs/msg/Image, with the defaults of generated messages; `data` is an array of bytes there."""

from array import array
from types import SimpleNamespace


class Image:
    def __init__(self):
        self.header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id="")
        self.height = self.width = self.is_bigendian = self.step = 0
        self.encoding, self.data = "", array("B")
