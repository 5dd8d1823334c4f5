"""std_msgs/msg/String, which takes a str alone."""


class String:
    def __init__(self):
        self._data = ""

    @property
    def data(self):
        return self._data

    @data.setter
    def data(self, value):
        assert isinstance(value, str)
        self._data = value
