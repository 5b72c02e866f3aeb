"""The load of the benchmarks is what it says: every request sent, told apart, timed and counted."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.benchmarks.load import Call, Found, Load, Side, complete, generator, percentile, run
from tests.benchmarks.steal import Steal

SCORE = re.compile(rb'"score": [0-9]')


class Echo(ThreadingHTTPServer):
    """A server that answers the number it is asked about, and counts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[int] = []
        self.connections = 0
        self.stalls = 0.0

    @property
    def port(self) -> int:
        return self.server_address[1]

    def process_request(self, request: object, client_address: object) -> None:
        self.connections += 1
        super().process_request(request, client_address)  # pyright: ignore[reportArgumentType]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is not printed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Echo

    def do_POST(self) -> None:
        number = json.loads(self.rfile.read(int(self.headers["content-length"])))["number"]
        self.server.asked.append(number)
        stalls, self.server.stalls = self.server.stalls, 0.0
        time.sleep(stalls)
        if self.path == "/closes":
            self.close_connection = True
            return
        body = {"/silent": {}, "/refuses": {"detail": "no"}}.get(self.path, {"score": number + 1})
        text = json.dumps(body).encode()
        self.send_response(503 if self.path == "/refuses" else 200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@contextmanager
def server() -> Iterator[Echo]:
    with Echo() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def asked(found: Echo, path: str = "/scores") -> Side:
    bodies = tuple(json.dumps({"number": number}).encode() for number in (10, 20, 30))
    return Side((Call(found.port, path, bodies),), SCORE)


def loaded(side: Side, *, connections: int = 2, seconds: float = 0.3, rate: float | None = None) -> Load:
    return run(side, connections=connections, seconds=seconds, warm=0.0, rate=rate)


def after(number: int, answer: bytes) -> bytes:
    return json.dumps({"number": json.loads(answer)["score"] * 100 + number}).encode()


def test_every_request_is_counted_on_connections_that_are_kept() -> None:
    with server() as found:
        load = loaded(asked(found), connections=3)
        assert load.answered == len(found.asked) > 0
        assert (load.errors, load.told) == (0, ())
        assert found.connections == load.connections == 3
    assert set(found.asked) == {10, 20, 30}
    assert load.rps == round(load.answered / load.seconds, 1)
    assert load.p50_ms is not None and load.p99_ms is not None
    assert 0 < load.p50_ms <= load.p99_ms


def test_a_process_of_its_own_makes_the_load() -> None:
    with server() as found, generator() as process:
        load = process.load(asked(found), connections=2, seconds=0.3, warm=0.1)
    assert 0 < load.answered <= len(found.asked)
    assert load.errors == 0


def test_a_request_of_two_calls_makes_the_second_of_its_number_and_the_first_answer() -> None:
    with server() as first, server() as second:
        side = Side((*asked(first).calls, Call(second.port, "/scores", after)), SCORE)
        load = loaded(side, connections=1)
        assert load.answered == len(first.asked) == len(second.asked) > 0
        assert second.asked == [(number + 1) * 100 + number // 10 - 1 for number in first.asked]
    assert load.errors == 0


def test_another_status_an_answer_without_score_and_a_closed_connection_are_errors_that_are_told() -> None:
    for path, words in (("/refuses", "503"), ("/silent", "no score: {}"), ("/closes", "closed")):
        with server() as found:
            load = loaded(asked(found, path), seconds=0.1)
            assert load.errors == len(found.asked) > 0
        assert (load.answered, load.p50_ms, load.p99_ms) == (0, None, None)
        assert words in load.told[0]


def test_a_server_that_is_away_is_an_error() -> None:
    with server() as found:
        side = asked(found)
    load = loaded(side, seconds=0.1)
    assert load.errors > 0 and load.answered == 0


def test_at_a_rate_a_stall_is_in_the_times_of_all_that_waited_for_it() -> None:
    with server() as found:
        found.stalls = 0.5
        load = loaded(asked(found), connections=1, seconds=1.0, rate=100)
        assert load.answered == len(found.asked)
    assert 95 <= load.answered <= 101
    assert load.p99_ms is not None and load.p99_ms > 450


def test_the_tail_beside_steal_is_of_requests_in_slices_of_which_nothing_was_taken() -> None:
    steal = Steal(ends=[0.0, 1.0, 2.0, 3.0], ticks=[5, 5, 7, 7])
    assert steal.none_within(0.1, 0.9) and steal.none_within(2.1, 2.9)
    assert not steal.none_within(0.5, 1.5), "it was going on as something was stolen"
    assert not steal.none_within(1.2, 1.3)
    assert not steal.none_within(2.5, 3.5) and not steal.none_within(-0.5, 0.5), "nobody looked"
    found = Found(counts_from=0, times=[(0.1, 0.2), (1.1, 1.8), (2.1, 2.4), (2.2, 2.4)], steal=steal)
    load = found.load(1, 3.0)
    assert (load.p99_ms, load.p99_still_ms, load.still) == (700, 300, 0.75)


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    hundred = [float(value) for value in range(1, 101)]
    assert [percentile(hundred, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([1.0, 2.0], 0.99) == 2
    assert percentile([1.0], 0.5) == 1


def test_an_answer_is_complete_when_its_length_has_come() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    assert [complete(whole[:end]) for end in (10, len(whole) - 1)] == [None, None]
    assert complete(whole) == b"{}"
