"""A small load on the service, every answer of which is compared with what it has to be."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]
Expected = Mapping[int, Sequence[float]]
"""By version, the score of each row."""


@dataclass
class Answered:
    """What came of the requests so far: right answers by version, and everything else by what was said."""

    right: Counter[int] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)
    ids: list[tuple[float, str]] = field(default_factory=list)
    """When each prediction was answered, on the monotonic clock, and its id."""


class Load:
    """Clients that ask again and again, each on a connection of its own, until the end of the block."""

    def __init__(
        self, port: int, name: str, rows: Sequence[Row], expected: Expected, *, clients: int = 3
    ) -> None:
        self.answered = Answered()
        self._port, self._name, self._rows, self._expected = port, name, rows, expected
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,), daemon=True) for i in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def more(self, requests: int, *, version: int | None = None, within: float = 90) -> None:
        """Wait for so many more right answers, of one version if one is given."""

        def right() -> int:
            return self.answered.right.total() if version is None else self.answered.right[version]

        wanted, deadline = right() + requests, time.monotonic() + within
        while right() < wanted:
            assert time.monotonic() < deadline, f"no more right answers: {self.answered.refused}"
            time.sleep(0.01)

    def until_refused(self, *, within: float = 90) -> None:
        """Wait until a request is refused that was not before."""
        before, deadline = self.answered.refused.total(), time.monotonic() + within
        while self.answered.refused.total() == before:
            assert time.monotonic() < deadline, "nothing was refused"
            time.sleep(0.01)

    def _ask(self, client: int) -> None:
        turn = client
        while not self._stop.is_set():
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
                try:
                    while not self._stop.is_set():
                        turn = (turn + 1) % len(self._rows)
                        self._ask_once(connection, turn)
                except (OSError, http.client.HTTPException) as err:
                    with self._lock:
                        self.answered.refused[type(err).__name__] += 1
                    self._stop.wait(0.05)

    def _ask_once(self, connection: http.client.HTTPConnection, turn: int) -> None:
        body = json.dumps({"instance": self._rows[turn]})
        path = f"/v1/models/{self._name}:predict"
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        self._take(turn, answer.status, json.loads(answer.read()))

    def _take(self, turn: int, status: int, said: Mapping[str, Any]) -> None:
        with self._lock:
            if status != 200:
                self.answered.refused[f"{status} {said['type']}"] += 1
                return
            (prediction,) = said["predictions"]
            states = {view["state"] for view in prediction["views"].values()}
            if states != {"fresh"} or prediction["score"] != self._expected[said["version"]][turn]:
                self.answered.wrong.append((turn, said))
            else:
                self.answered.right[said["version"]] += 1
                self.answered.ids.append((time.monotonic(), prediction["prediction_id"]))
