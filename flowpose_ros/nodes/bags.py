"""rosbag2 in and out (sqlite3 and mcap) through rosbags; messages stay the bytes they are."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from flowpose_ros.errors import BagError

PRIMITIVES = {"double": "float64", "float": "float32", "boolean": "bool", "octet": "byte"}


@dataclass(frozen=True)
class Recorded:
    """One message of a bag: its connection, receive time in nanoseconds, and CDR bytes."""

    connection: Connection
    time_ns: int
    data: bytes


class BagReader:
    """Reads a bag folder, or a single .mcap or .db3 file; raises BagError where it is unusable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = Reader(path)
            self._reader.open()
        except Exception as error:  # sqlite, mcap, yaml and file errors alike
            raise BagError(f"{path}: expected a rosbag2 bag, got {_first_line(error)}") from error

    @property
    def topics(self) -> dict[str, str]:
        """Message type by topic."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    @property
    def connections(self) -> list[Connection]:
        """All connections of the bag."""
        return self._reader.connections

    @property
    def message_count(self) -> int:
        """How many messages the bag says it holds."""
        return self._reader.message_count

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Recorded]:
        """All messages, or those of some topics, in the order in which they were received."""
        chosen = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not chosen:  # which the library takes for all
            return
        stream = self._reader.messages(chosen)
        while True:
            try:
                connection, time_ns, data = next(stream)
            except StopIteration:
                return
            except Exception as error:
                raise BagError(f"{self.path}: expected readable messages up to the end, "
                               f"got {_first_line(error)}") from error
            yield Recorded(connection, time_ns, bytes(data))

    def close(self) -> None:
        """Close the files."""
        self._reader.close()


class BagWriter:
    """Writes a copy of a bag with further topics; use as a context manager.

    extra: message class by topic. Raises BagError when the path exists or cannot be written. A copy that failed before
    anything was added is taken away again.
    """

    def __init__(self, path: Path, source: BagReader, extra: Mapping[str, type]) -> None:
        self._path, self._added = path, False
        plugin = StoragePlugin.MCAP if path.suffix == ".mcap" or _is_mcap(source.path) else StoragePlugin.SQLITE3
        try:
            self._writer = Writer(path, version=9, storage_plugin=plugin)
            self._writer.open()
        except (WriterError, OSError) as error:
            raise BagError(f"{path}: expected a new folder to write to, got {_first_line(error)}") from error
        store = typestore_of(extra.values())
        self._copies = {c.id: self._copy(c, store) for c in source.connections}
        by_topic = {c.topic: copy for c in source.connections if (copy := self._copies[c.id])}
        self._extra = {topic: by_topic.get(topic) or self._writer.add_connection(
            topic, type_name(message_type), typestore=store) for topic, message_type in extra.items()}

    def copy(self, message: Recorded) -> None:
        """Write a message of the source bag."""
        connection = self._copies[message.connection.id]
        if connection is not None:
            self._writer.write(connection, message.time_ns, message.data)

    def add(self, topic: str, time_ns: int, data: bytes) -> None:
        """Write a message of an extra topic."""
        self._added = True
        self._writer.write(self._extra[topic], time_ns, data)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind, *error) -> None:
        self._writer.close()
        if kind is not None and not self._added:
            shutil.rmtree(self._path, ignore_errors=True)

    def _copy(self, connection: Connection, store: Typestore) -> Connection | None:
        """The connection in the new bag, or None where nobody knows the definition of its type."""
        known = {"msgdef": connection.msgdef.data, "rihs01": connection.digest}
        if not all(known.values()):
            if connection.msgtype not in store.types:
                return None
            known = {"typestore": store}
        return self._writer.add_connection(
            connection.topic, connection.msgtype, **known,
            serialization_format=connection.ext.serialization_format,
            offered_qos_profiles=connection.ext.offered_qos_profiles)


def typestore_of(message_types) -> Typestore:
    """rosbags' own types, and those that the message classes consist of."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for message_type in message_types:
        _register(store, message_type)
    return store


def _register(store: Typestore, message_type: type) -> None:
    """Make a message class known; rosbags brings no vision_msgs, whose fields differ between versions."""
    name = type_name(message_type)
    if name in store.types:
        return
    lines = []
    for field, kind in message_type.get_fields_and_field_types().items():
        base, suffix = re.fullmatch(r"(?:sequence<)?([\w/]+)(?:, \d+)?>?((?:\[\d+\])?)", kind).groups()
        if "/" in base:
            _register(store, _message_class(base))
        lines.append(f"{PRIMITIVES.get(base, base)}{'[]' if kind.startswith('sequence') else suffix} {field}")
    store.register(get_types_from_msg("\n".join(lines), name))


def _message_class(name: str) -> type:
    package, kind = name.split("/")[0], name.split("/")[-1]
    return getattr(__import__(f"{package}.msg", fromlist=[kind]), kind)


def type_name(message_type: type) -> str:
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"


def _is_mcap(path: Path) -> bool:
    return path.suffix == ".mcap" or (path.is_dir() and any(path.glob("*.mcap*")))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
