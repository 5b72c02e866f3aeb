"""On-demand features of the handbook: what the time of a transaction tells."""


def transaction_calendar(inputs: dict[str, list]) -> dict[str, list]:
    """Weekend and night, as 0 or 1: night is up to 06:59.

    Columns in, columns out, each of one length: `transaction_time` in seconds since 1970 UTC.
    """
    import numpy as np

    seconds = np.asarray(inputs["transaction_time"], dtype=np.int64)
    weekday = (seconds // 86_400 + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    return {
        "is_weekend": (weekday >= 5).astype(np.float64).tolist(),
        "is_night": (seconds % 86_400 // 3_600 <= 6).astype(np.float64).tolist(),
    }
