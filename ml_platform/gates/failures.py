"""What a failed step said: the refusal in words, or the innermost error."""

from dagster._core.execution.plan.objects import StepFailureData


def refusal_of(failure: StepFailureData) -> str | None:
    """The words of a step that refused on purpose; None where something broke."""
    by_hand = failure.user_failure_data
    return (by_hand.description or None) if by_hand is not None else None


def words_of(failure: StepFailureData) -> str:
    """What a failed step said, whyever it failed."""
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return refusal_of(failure) or (error.message.strip() if error is not None else "failed")
