"""The process that `ml-platform serve` is: how it tells what it does, and how it ends."""

import json
import urllib.request
from datetime import date

from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from ml_platform.serving.logged import log_table
from tests.serving.processes import ServiceProcess
from tests.serving.served import ROW


def test_what_waits_is_logged_before_the_process_ends(looked_at: Settings) -> None:
    environment = {"ML_PLATFORM_HOME": str(looked_at.root), "ML_PLATFORM_SERVING__LOG_SECONDS": "600"}
    service = ServiceProcess(environment, "--at", "2018-06-27T12:00:00")
    service.start()
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{service.port}/v1/models/fraud:predict",
            json.dumps({"instance": ROW}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            said = json.load(answer)
        assert service.metric("log_queue_depth") == 1
    finally:
        service.stop()
    (row,) = Lake(looked_at.lake_uri).table(log_table("fraud")).open().to_pyarrow_table().to_pylist()
    assert (row["request_id"], row["trace_id"]) == (said["request_id"], said["trace_id"])
    assert (row["partition_date"], row["role"]) == (date(2018, 6, 27), "champion")
    lines = [line for line in service.said if line.startswith("{")]
    assert any("is served as champion" in json.loads(line)["message"] for line in lines)
