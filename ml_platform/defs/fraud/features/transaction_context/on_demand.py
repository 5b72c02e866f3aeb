"""On-demand features of a transaction: the same function offline, online and in training."""


def transaction_context(inputs: dict[str, list]) -> dict[str, list]:
    """Night, weekend, and the amount over the customer's 30-day mean (null without a mean).

    Columns in, columns out, each of one length: `transaction_time` in seconds since 1970 UTC. Night is before
    07:00. The function is self-contained, because Feast may rebuild it from its source alone.
    """
    import numpy as np

    seconds = np.asarray(inputs["transaction_time"], dtype=np.int64)
    amount = np.asarray(inputs["amount"], dtype=np.float64)
    mean = np.asarray(inputs["customer_mean_amount_30d"], dtype=np.float64)
    weekday = (seconds // 86_400 + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    has_mean = mean > 0
    ratio = np.divide(amount, mean, out=np.full(len(amount), np.nan), where=has_mean)
    return {
        "is_night": (seconds % 86_400 < 7 * 3_600).astype(np.float64).tolist(),
        "is_weekend": (weekday >= 5).astype(np.float64).tolist(),
        "amount_over_mean_30d": [
            value if known else None for value, known in zip(ratio.tolist(), has_mean.tolist(), strict=True)
        ],
    }
