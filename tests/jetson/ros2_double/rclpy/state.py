"""What this process's rclpy knows: parameters of the command line, and what was published."""

is_running = False
parameters: dict[str, object] = {}
published: list[tuple[str, object]] = []
# Messages that come while a callback runs: each entry is a list put into the queue before the next is taken.
arriving: list[list[object]] = []
log: list[str] = []


def read_arguments(args):
    """`--ros-args -p name:=value`, the value as YAML has it."""
    import yaml

    words = args[args.index("--ros-args") + 1 :] if "--ros-args" in args else []
    pairs = [word.split(":=", 1) for flag, word in zip(words, words[1:], strict=False) if flag == "-p"]
    return {name: yaml.safe_load(value) for name, value in pairs}
