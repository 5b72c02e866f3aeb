"""The lake on an object store: the same commits, reads and reports, by URI and AWS's standard variables alone."""

import datetime as dt
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
import pytest

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.lake import documents
from ml_platform.lake.engine import connect, database, small_answer
from ml_platform.lake.ledger import Publication, publish_partitions, published
from ml_platform.lake.maintenance import compact
from ml_platform.lake.object_store import S3
from ml_platform.lake.tables import Lake
from tests.http_server import Quiet, answering
from tests.object_store import BUCKET

DAYS = tuple(f"2018-06-{day:02}" for day in range(1, 9))
NAME = "features/toy"


@pytest.fixture
def lake(object_store: str) -> Lake:
    """An empty lake in the module's store."""
    return Lake(f"{object_store}/{uuid4().hex}")


def rows(day: str, *values: int) -> pa.Table:
    dates = pa.array([dt.date.fromisoformat(day)] * len(values), pa.date32())
    return pa.table({"x": pa.array(values, pa.int64()), "partition_date": dates})


def values(lake: Lake, version: int | None = None) -> list[int]:
    return [
        x for (x,) in small_answer(f"SELECT x FROM ({lake.table(NAME).scan(version=version)}) ORDER BY x")
    ]


def test_days_are_replaced_in_one_commit_and_every_version_can_be_read(lake: Lake) -> None:
    table = lake.table(NAME)
    first = table.replace_partitions(pa.concat_tables([rows(DAYS[0], 1, 2), rows(DAYS[1], 3)]), keys=DAYS[:2])
    second = table.replace_partitions(rows(DAYS[0], 9), keys=DAYS[:1], told={"why": "corrected"})
    assert (values(lake, first), values(lake)) == ([1, 2, 3], [3, 9])
    assert [(commit["version"], commit.get("why")) for commit in table.commits_after(first)] == [
        (second, "corrected")
    ]


def test_of_several_writers_at_once_none_is_lost(lake: Lake) -> None:
    def write(number: int) -> int:
        return lake.table(NAME).replace_partitions(rows(DAYS[number], number), keys=[DAYS[number]])

    with ThreadPoolExecutor(len(DAYS)) as pool:
        versions = list(pool.map(write, range(len(DAYS))))
    assert values(lake) == list(range(len(DAYS)))
    assert len(set(versions)) == len(DAYS)


def test_a_publication_is_found_again(lake: Lake) -> None:
    made = Publication(NAME, DAYS[0], "a1b2", 2, 0, "declared", "run", "{}")
    publish_partitions(lake, rows(DAYS[0], 1, 2), [made])
    found = published(lake, NAME)[DAYS[0]]
    assert (found.content_hash, found.rows) == ("a1b2", 2)


def test_a_compacted_table_has_the_same_rows(lake: Lake) -> None:
    for day, number in zip(DAYS, range(len(DAYS)), strict=True):
        lake.table(NAME).append(rows(day, number))
        lake.table(NAME).append(rows(day, number + 100))
    before = values(lake)
    compact(lake, NAME)
    assert values(lake) == before


def test_reports_lie_beside_the_tables(lake: Lake) -> None:
    lake.table(NAME).append(rows(DAYS[0], 1))
    uri = documents.write(lake, "reports/toy/one.html", b"<p>old</p>")
    documents.write(lake, "reports/toy/one.html", b"<p>new</p>")
    assert uri == f"{lake.root}/reports/toy/one.html"
    assert documents.read(lake, "reports/toy/one.html") == b"<p>new</p>"
    assert documents.read(lake, "reports/toy/two.html") is None
    assert documents.names(lake, "reports/toy") == ["one.html"]
    assert lake.table_names() == [NAME]


def test_the_engine_of_a_step_reads_the_store(lake: Lake, home: Settings) -> None:
    lake.table(NAME).append(rows(DAYS[0], 1, 2))
    with connect(home) as connection:
        query = f"SELECT sum(x) FROM ({lake.table(NAME).scan()})"
        assert connection.execute(query).fetchall() == [(3,)]


@pytest.fixture
def wide_file(object_store: str) -> Iterator[str]:
    """A file whose row groups are read by several threads at once, and whose columns lie far apart."""
    numbers = np.arange(400_000)
    table = pa.table({f"c{i}": numbers * (i + 1) for i in range(6)})
    store, path = pa_fs.FileSystem.from_uri(f"{object_store}/wide-{uuid4().hex}.parquet")
    pq.write_table(table, path, filesystem=store, row_group_size=20_000)
    yield f"s3://{path}"
    store.delete_file(path)


def test_threads_that_share_a_file_read_each_what_it_asked_for(wide_file: str) -> None:
    sums = ", ".join(f"sum(c{i})" for i in range(6))
    whole = 400_000 * 399_999 // 2
    with database(threads=8) as connection:
        for _ in range(5):
            assert connection.execute(f"SELECT {sums} FROM read_parquet('{wide_file}')").fetchall() == [
                tuple(whole * (i + 1) for i in range(6))
            ]


def test_a_file_that_is_not_there_is_said_to_be_missing(object_store: str) -> None:
    with database(threads=1) as connection, pytest.raises(duckdb.IOException, match=r"nothing\.parquet"):
        connection.execute(f"SELECT * FROM read_parquet('{object_store}/nothing.parquet')")


def test_the_store_of_aws_is_found_by_its_region_and_nobody_is_asked_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    store = S3(skip_instance_cache=True)
    assert isinstance(store.fs, pa_fs.S3FileSystem)
    assert store.fs.region == "eu-central-1"


ASKED: dict[str, Callable[[Lake], object]] = {
    "a table": lambda lake: lake.table(NAME).version(),
    "all tables": Lake.table_names,
    "a document": lambda lake: documents.read(lake, "reports/toy/one.html"),
    "documents": lambda lake: documents.names(lake, "reports/toy"),
    "writing": lambda lake: documents.write(lake, "reports/toy/one.html", b""),
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_a_bucket_that_is_not_there_is_no_empty_lake(
    asked: Callable[[Lake], object], object_store: str
) -> None:
    with pytest.raises(StoreError, match=r"s3://lake-of-nobody/lake.*store of the lake is required"):
        asked(Lake(f"{object_store}-of-nobody/lake"))


class PrefixOnly(Quiet):
    """A store that denies who asks for the bucket itself, and has nothing below the prefix."""

    def do_HEAD(self) -> None:
        self.send_response(403 if self.path == f"/{BUCKET}" else 404)
        self.end_headers()

    def do_GET(self) -> None:
        body = b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><KeyCount>0</KeyCount></ListBucketResult>'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_key_that_may_not_ask_for_the_bucket_finds_an_empty_lake(
    object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(PrefixOnly) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        lake = Lake(f"{object_store}/only")
        with pytest.raises(OSError, match="ACCESS_DENIED"):
            lake.filesystem[0].get_file_info(BUCKET)
        assert documents.names(lake, "reports/toy") == lake.table_names() == []


def test_a_store_that_does_not_answer_is_no_empty_lake(
    object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # nobody listens on it, and nobody else takes it
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StoreError, match="store of the lake is required"):
            documents.read(Lake(f"{object_store}/down"), "reports/toy/one.html")
