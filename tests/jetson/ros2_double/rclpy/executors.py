"""rclpy.executors."""


class ExternalShutdownException(Exception):
    pass
