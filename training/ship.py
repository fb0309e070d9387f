"""Put trained weights into the package: python -m training.ship FILE.safetensors ..."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from flowpose_ros.networks.weights import REGISTRY, file_hash, shipped_folder

LARGEST = 16 * 2 ** 20


def ship(files: list[Path], folder: Path) -> dict[str, str]:
    """Copy weights into `folder` and list their hashes in its registry, which is returned.

    Raises ValueError when a file is larger than 16 MiB.
    """
    registry = folder / REGISTRY
    listed = json.loads(registry.read_text()) if registry.exists() else {}
    for path in files:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path}: expected at most {LARGEST} bytes, got {path.stat().st_size}")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
        listed[path.name] = file_hash(path)
    registry.write_text(json.dumps(listed, indent=1, sort_keys=True) + "\n")
    return listed


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    for name, digest in ship(parser.parse_args().files, shipped_folder()).items():
        print(f"{digest}  {name}")


if __name__ == "__main__":
    main()
