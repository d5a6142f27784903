"""The benchmark suite: `chronova bench`.

A scenario (`scenarios/`) starts a control plane of its own (`target`), loads it (`load`, `fleet`, over `http_client`),
and puts figures on a board (`figures`); `run` runs them and `report` shows them. Nothing here asserts a time.
"""

from cli.bench.command import bench

__all__ = ["bench"]
