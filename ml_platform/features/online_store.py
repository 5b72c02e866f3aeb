"""Feast's online store on Redis, as snapshots need it: the newest wins on the server, one round trip reads all views.

`feature_store.yaml` names it as `type: ml_platform.features.online_store.RedisSnapshotOnlineStore`. What is stored is
what Feast's own store for Redis stores, so that each reads what the other wrote. Feast imports this module, and only
Feast does, so that it imports Feast at its top.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cache
from struct import Struct
from threading import Lock, local
from typing import Any, Literal

from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.infra.online_stores.redis import (
    RedisOnlineStore,
    RedisOnlineStoreConfig,
    _versioned_fv_name,
)
from feast.protos.feast.types.Value_pb2 import Value, ValueType
from feast.repo_config import RepoConfig
from feast.utils import make_tzaware
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import Field, SecretStr
from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from ml_platform.features.online_reads import Key, OnlineRow, ViewKeys, plain_value

_ROWS = 1_000
"""Rows in one pipeline: Redis answers readers between its commands, and each answer has to come in time."""

_NUMBER, _TEXT = Struct("<IIq"), Struct("<II")
"""A value of a key after its type and length: a whole number, and what comes before a text."""

_WRITE = """
-- A row of a view at a time: written whole, unless the entity has a later one. Feast keeps the time as a protobuf
-- Timestamp under ARGV[1]; ARGV[3…] are the names and values of features.
local function varint(text, at)
    local value, scale = 0, 1
    while at <= #text do
        local byte = string.byte(text, at)
        value, scale, at = value + (byte % 128) * scale, scale * 128, at + 1
        if byte < 128 then break end
    end
    return value, at
end
local function time(text)
    local found, at = {[8] = 0, [16] = 0}, 1
    while at <= #text do
        local tag = string.byte(text, at)
        found[tag], at = varint(text, at + 1)
    end
    return found[8], found[16]
end
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
    local seconds, nanos = time(known)
    local new_seconds, new_nanos = time(ARGV[2])
    if seconds > new_seconds or (seconds == new_seconds and nanos > new_nanos) then return 0 end
end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
"""


class RedisSnapshotOnlineStoreConfig(RedisOnlineStoreConfig):
    """What `online_store:` in `feature_store.yaml` may say."""

    type: Literal["ml_platform.features.online_store.RedisSnapshotOnlineStore"] = (  # pyright: ignore[reportIncompatibleVariableOverride]
        "ml_platform.features.online_store.RedisSnapshotOnlineStore"
    )
    url: SecretStr = Field(description="redis://[[user]:password@]host[:port][/db], or rediss:// for TLS.")
    timeout_seconds: float = Field(
        default=0.25, gt=0, description="How long Redis may take to be reached, and to answer."
    )
    max_connections: int = Field(default=64, ge=1, description="Connections that one process may open.")


class RedisSnapshotOnlineStore(RedisOnlineStore):
    """Writes a row unless a later one is there, in one step on the server, however many write at once.

    A row of the same event time takes the place of the one before, which is how a snapshot is corrected: Feast's own
    store drops it, and compares times before it writes, so that of two writers the older one may win.
    """

    def __init__(self) -> None:
        self._opening = Lock()
        self._mine = local()

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Any],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows of (entity key, values by name, event time, created time); older ones have no effect."""
        client = self._get_client(config.online_store)
        write = client.register_script(_WRITE)
        name = _versioned_fv_name(table, config)
        fields = {feature.name: _mmh3(f"{name}:{feature.name}") for feature in table.features}
        for rows in _portions(data):
            with client.pipeline(transaction=False) as pipe:
                for entity_key, values, event_time, _ in rows:
                    key = _redis_key(config.project, entity_key, config.entity_key_serialization_version)
                    arguments: list[Any] = [f"_ts:{name}", _timestamp(event_time)]
                    for feature, value in values.items():
                        arguments += [fields[feature], value.SerializeToString()]
                    write(keys=[key], args=arguments, client=pipe)
                pipe.execute()
            if progress is not None:
                progress(len(rows))

    def read_views(self, config: RepoConfig, wanted: Sequence[ViewKeys]) -> list[list[OnlineRow]]:
        """The rows of several views for the keys of each, in one round trip."""
        names = [_versioned_fv_name(view.view, config) for view in wanted]
        fields = [_fields(name, tuple(view.features)) for name, view in zip(names, wanted, strict=True)]
        project = config.project.encode()
        asked = [
            ("HMGET", _entity(view.join_keys, key) + project, *mine)
            for view, mine in zip(wanted, fields, strict=True)
            for key in view.keys
        ]
        answers = iter(_answered(self._own_connection(config.online_store), asked))
        return [[_row(next(answers)) for _ in view.keys] for view in wanted]

    def _own_connection(self, online_store_config: Any) -> Any:
        """The connection that this thread reads by: the pool looks at each one that it gives, which takes as long."""
        if not hasattr(self._mine, "connection"):
            pool = self._get_client(online_store_config).connection_pool
            self._mine.connection = pool.connection_class(**pool.connection_kwargs)
        return self._mine.connection

    def _get_client(self, online_store_config: Any) -> Any:
        """One client of the process, with connections for those who write."""
        with self._opening:
            if self._client is None:
                self._client = _client(online_store_config)
            return self._client


def _entity(join_keys: tuple[str, ...], key: Key) -> bytes:
    """An entity as Feast serializes its key, which makes a protobuf first and takes many times as long."""
    found, order = _named(join_keys)
    for i in order:
        value = key[i]
        if isinstance(value, int):
            found += _NUMBER.pack(ValueType.INT64, 8, value)
        else:
            text = value.encode()
            found += _TEXT.pack(ValueType.STRING, len(text)) + text
    return found


@cache
def _named(join_keys: tuple[str, ...]) -> tuple[bytes, tuple[int, ...]]:
    """The names of an entity's join keys, and in which order their values follow: that of the names, as text."""
    order = sorted(range(len(join_keys)), key=join_keys.__getitem__)
    return serialize_entity_key_prefix(list(join_keys)), tuple(order)


@cache
def _fields(name: str, features: tuple[str, ...]) -> tuple[str | bytes, ...]:
    """Where the features of a view are, and its time."""
    return (*(_mmh3(f"{name}:{feature}") for feature in features), f"_ts:{name}")


def _client(config: RedisSnapshotOnlineStoreConfig) -> Redis:
    """A client whose connections are opened once more when they turn out to be dead, and waited for no longer."""
    pool = BlockingConnectionPool.from_url(
        config.url.get_secret_value(),
        max_connections=config.max_connections,
        timeout=config.timeout_seconds,
        socket_timeout=config.timeout_seconds,
        socket_connect_timeout=config.timeout_seconds,
        socket_keepalive=True,
        socket_keepalive_options=_keepalive(),
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    return Redis(connection_pool=pool)


def _answered(connection: Any, commands: Sequence[tuple[str | bytes, ...]]) -> list[Any]:
    """What Redis answers to some commands, in one round trip, asked once more when the connection was dead.

    A pipeline of the client does as much, and half as much again of its own around it.
    """

    def ask() -> list[Any]:
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        return [connection.read_response(disable_decoding=True) for _ in commands]

    try:
        return connection.retry.call_with_retry(ask, lambda _: connection.disconnect())
    except BaseException:
        connection.disconnect()  # answers that nobody took are not the next one's
        raise


def _keepalive() -> dict[int, int]:
    """A peer that is gone without a word is noticed within half a minute, where the system can be told so."""
    wanted = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _portions(data: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(data), _ROWS):
        yield data[start : start + _ROWS]


def _timestamp(event_time: datetime) -> bytes:
    found = Timestamp()
    found.FromDatetime(make_tzaware(event_time))
    return found.SerializeToString()


def _row(answer: Sequence[Any]) -> OnlineRow:
    """One entity's row from its fields, of which the last is its time; None where there is no time."""
    *values, time = answer
    if time is None:
        return None
    at = Timestamp.FromString(time)
    found = [None if value is None else plain_value(Value.FromString(value)) for value in values]
    return at.seconds * 1_000_000 + at.nanos // 1_000, found
