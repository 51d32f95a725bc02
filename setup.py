"""What pyproject.toml cannot say: conf/ is installed as evalkit/conf. Everything else stands there."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["evalkit*", "methods*"]), "evalkit.conf"],
    package_dir={"evalkit.conf": "conf"},
)
