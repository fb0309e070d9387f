"""Weights files: fp16 safetensors with the network's shape in the header, checked by hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from flowpose_ros.errors import WeightsError

REGISTRY = "weights.json"
MAX_SIZE = 1024
"""Largest width, radius or count that a network of ours could have."""
Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)


def shipped_folder() -> Path:
    """The folder of the weights that come with the package."""
    return Path(str(files("flowpose_ros") / "weights"))


def save_weights(path: Path, state: dict[str, torch.Tensor], *, kind: str, config: Any,
                 features: str | None = None) -> None:
    """Write a network's state in half precision, with its kind and config dataclass in the header.

    features: hash of the weights file whose features the network has learnt on or kept, if any. Equal states give equal
    files. An older file stays whole until the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {k: v.detach().half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
    header = {"kind": kind, "config": json.dumps(dataclasses.asdict(config))}
    part = path.with_suffix(".part")
    try:
        part.write_bytes(_ordered(save(half, header | ({"features": features} if features else {}))))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _ordered(file: bytes) -> bytes:
    """A safetensors file with its header in order: the library writes the metadata in a random one."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[end:]


def features_hash(refiner: Path) -> str:
    """Hash of the weights file whose features a refiner has: its own, or the one it began with and kept them of.

    Raises WeightsError when the file is missing or not safetensors.
    """
    return _header(refiner).get("features") or file_hash(refiner)


def check_features(path: Path, refiner: Path, fingerprint: str) -> None:
    """Raise WeightsError when a network has learnt on other features than those of the file `refiner`, whose
    `features_hash` is `fingerprint`; a file that does not say is taken."""
    wanted = _header(path).get("features")
    if wanted not in (None, fingerprint):
        raise WeightsError(f"weights {path}: expected a network for the features of {refiner.name} (sha256 "
                           f"{fingerprint:.12}...), got one for those of {wanted:.12}...")


def _header(path: Path) -> dict[str, str]:
    """The metadata of a weights file; raises WeightsError when it is missing or not safetensors."""
    if not path.is_file():
        raise WeightsError(f"weights {path}: expected a safetensors file, found none")
    try:
        with safe_open(str(path), "pt") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"weights {path}: expected a safetensors file, got {error}") from error


def load_config(path: Path, kind: str, config_class: type[Config]) -> Config:
    """The config dataclass in a weights file's header.

    Raises WeightsError when the file is missing, not safetensors, of another kind of network, or when a
    size in it is not from its least to MAX_SIZE.
    """
    header = _header(path)
    if header.get("kind") != kind:
        raise WeightsError(f"weights {path}: expected a network of kind {kind!r}, got {header.get('kind')!r}")
    try:
        fields = json.loads(header["config"])
        for field in dataclasses.fields(config_class):
            if field.name in fields:
                _check_field(field, fields[field.name])
        return config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"weights {path}: header does not hold a {config_class.__name__}: {error}") from error


def _check_field(field: dataclasses.Field, value: Any) -> None:
    """Raise ValueError unless a value from a header is of its default's kind: a choice, or sizes, of which the metadata
    `least` says the smallest where it is not 1."""
    if isinstance(field.default, (bool, str)):
        if type(value) is not type(field.default):
            raise ValueError(f"{field.name}: expected a {type(field.default).__name__}, got {value!r:.100}")
        return
    sizes, least = value if isinstance(value, list) else [value], field.metadata.get("least", 1)
    if not all(type(size) is int and least <= size <= MAX_SIZE for size in sizes):
        raise ValueError(f"{field.name}: expected whole numbers from {least} to {MAX_SIZE}, got {value!r:.100}")


def load_network(path: Path, kind: str, config_class: type[Config], build: Callable[[Config], Network]) -> Network:
    """The network in a weights file, in fp32; raises WeightsError as load_config and load_weights do."""
    config = load_config(path, kind, config_class)
    try:
        network = build(config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"weights {path}: expected the sizes of a {kind} network, got {config}: {error}") from error
    load_weights(path, network)
    return network


def load_weights(path: Path, module: nn.Module) -> None:
    """Load a file's tensors into a module, in fp32.

    A file listed in the registry beside it must have the listed SHA-256. Raises WeightsError naming
    the file and what differs: hash, missing or unexpected tensors, shapes, numbers that are not finite.
    """
    check_hash(path)
    with safe_open(str(path), "pt") as opened:
        state = {name: opened.get_tensor(name) for name in opened.keys()}
    expected = module.state_dict()
    for name in expected.keys() | state.keys():
        want = list(expected[name].shape) if name in expected else None
        got = list(state[name].shape) if name in state else None
        if want != got:
            raise WeightsError(f"weights {path}: tensor {name}: expected shape {want}, got {got}")
        if not torch.isfinite(state[name]).all():
            raise WeightsError(f"weights {path}: tensor {name}: expected finite numbers, got others")
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    module.eval()


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_hash(path: Path) -> None:
    """Raise WeightsError when the registry beside a weights file is broken or lists another hash for it."""
    registry = path.parent / REGISTRY
    if not registry.is_file():
        return
    try:
        listed = json.loads(registry.read_text(encoding="utf-8")).get(path.name)
    except (AttributeError, OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"weights {registry}: expected a JSON object of hashes by file name, got {error}") from error
    if listed is not None and listed != file_hash(path):
        raise WeightsError(f"weights {path}: expected sha256 {listed}, got {file_hash(path)}")
