"""Set-up of the ROS 2 package, for colcon: `colcon build --packages-select mobilevlm_watch`."""

from setuptools import setup

PACKAGE = "mobilevlm_watch"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=[PACKAGE],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="MobileVLM on the edge",
    maintainer_email="nobody@example.com",
    description="Asks a MobileVLM bundle about the images of a topic and publishes when the answer changes.",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"watch = {PACKAGE}.node:main"]},
)
