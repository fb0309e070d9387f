"""Put trained weights into the package: python -m training.ship FILE.safetensors ..."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

from flowpose_ros.estimation.networks import load_networks
from flowpose_ros.networks.weights import REGISTRY, file_hash, shipped_folder
from training.command import command

LARGEST = 16 * 2 ** 20
NAMES = ("genflow_*.safetensors", "settle_*.safetensors", "scorer.safetensors", "geometry.safetensors",
         "verifier.safetensors", "pose_score.safetensors")
"""What estimation looks for in a folder of weights."""


def ship(files: list[Path], folder: Path) -> dict[str, str]:
    """Move copies of weights into `folder` and list their hashes in its registry, which is returned.

    All are checked first, together with those of the folder that stay: what is not right leaves the folder as it is.
    Raises ValueError when a file is not called as weights are or is larger than 16 MiB, FileNotFoundError when one is
    missing, WeightsError when one is broken, of another kind, or does not go with the others (see `load_networks`).
    """
    for path in files:
        if not any(fnmatch(path.name, name) for name in NAMES):
            raise ValueError(f"{path}: expected a file called {', '.join(NAMES)}; got {path.name}")
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path}: expected at most {LARGEST} bytes, got {path.stat().st_size}")
    folder.mkdir(parents=True, exist_ok=True)
    registry = folder / REGISTRY
    with TemporaryDirectory(prefix=".shipped_", dir=folder) as room:
        tried = Path(room)
        for path in [*folder.glob("*.safetensors"), *files]:
            shutil.copyfile(path, tried / path.name)
        load_networks(str(tried), "cpu")
        listed = json.loads(registry.read_text()) if registry.exists() else {}
        listed |= {path.name: file_hash(tried / path.name) for path in files}
        (tried / REGISTRY).write_text(json.dumps(listed, indent=1, sort_keys=True) + "\n")
        for name in [*(path.name for path in files), REGISTRY]:
            os.replace(tried / name, folder / name)
    return listed


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    for name, digest in ship(parser.parse_args().files, shipped_folder()).items():
        print(f"{digest}  {name}")


if __name__ == "__main__":
    main()
