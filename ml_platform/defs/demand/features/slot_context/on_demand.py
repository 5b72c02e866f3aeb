"""On-demand features of an hour: the same function offline, online and in training."""


def slot_context(inputs: dict[str, list]) -> dict[str, list]:
    """Hour, weekday, what kind of place and weather it is, and what the notice says, as numbers.

    Columns in, columns out, each of one length: `starts_at` in seconds since 1970 UTC. What is not known has no value.
    The function is self-contained, because Feast may rebuild it from its source alone.
    """
    import numpy as np

    kinds = {"station": 0.0, "mall": 1.0, "corner": 2.0}
    skies = {"sunny": 0.0, "cloudy": 1.0, "rain": 2.0, "snow": 3.0}
    seconds = np.asarray(inputs["starts_at"], dtype=np.int64)
    notices = [(text or "").lower() for text in inputs["notice"]]
    return {
        "hour": (seconds % 86_400 // 3_600).astype(np.float64).tolist(),
        "weekday": ((seconds // 86_400 + 3) % 7).astype(np.float64).tolist(),
        "kind_code": [kinds.get(kind) for kind in inputs["kind"]],
        "weather_code": [skies.get(sky) for sky in inputs["weather"]],
        "is_closed": [float("closed" in text) for text in notices],
        "is_event": [float("festival" in text or "discount" in text) for text in notices],
    }
