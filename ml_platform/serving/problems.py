"""What is answered when a request is refused or cannot be answered: RFC 9457's problem documents.

A problem says what was required and what came, never where in the code; who needs that finds it in the log, by the
request's id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ml_platform.kernel.errors import InputError, StoreError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:problem-type:ml-platform:"

Reason = Literal[
    "no_key",
    "unknown_key",
    "expired_key",
    "unknown_route",
    "method",
    "unknown_model",
    "unknown_version",
    "unknown_service",
    "content_type",
    "content_encoding",
    "too_large",
    "not_json",
    "invalid",
    "rejected_rows",
    "incomplete",
    "too_slow",
    "not_ready",
    "store",
    "unexpected",
]
"""Why a request was not answered as it was asked; metrics count by it."""


class FieldProblem(BaseModel):
    """One place in a request, and what is wrong with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="Where: `instances[3].amount`, or the name of a query parameter.")
    message: str = Field(description="What was required, and what came.")


class ProblemDocument(BaseModel):
    """Why a request was not answered as it was asked (RFC 9457)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="The kind of problem; always the same for the same kind.")
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = Field(
        description="The places in the request that are wrong, if it is places."
    )
    request_id: str
    error: str = Field(description="The detail once more, where clients of the Open Inference Protocol look.")


class Refused(InputError):
    """A request that is answered with a problem: with which status, why, and in which places."""

    def __init__(
        self,
        status: int,
        reason: Reason,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(status, reason, detail, tuple(errors), headers or {})


@dataclass(frozen=True)
class Problem:
    """What a problem document is made of."""

    status: int
    reason: Reason
    detail: str
    errors: Sequence[FieldProblem] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def document(self, request_id: str) -> dict[str, Any]:
        return {
            "type": TYPE_PREFIX + self.reason,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "errors": [error.model_dump() for error in self.errors],
            "request_id": request_id,
            "error": self.detail,
        }

    def response(self, request_id: str) -> Response:
        return Response(
            to_json(self.document(request_id)),
            status_code=self.status,
            media_type=MEDIA_TYPE,
            headers=dict(self.headers),
        )


def problem_of(err: Exception) -> Problem:
    """What is answered when something was raised; of what nobody expected, nothing but that it happened."""
    match err:
        case Refused():
            return err.problem
        case InputError():
            return Problem(422, "invalid", str(err))
        case StoreError():
            detail = "a store that the answer is made from did not answer as is required; the log has which by its id"
            return Problem(
                503, "store", f"{detail}. Nothing was scored; ask again", headers={"Retry-After": "1"}
            )
        case HTTPException(status_code=405):
            detail = "a method that this route has is required; see the `allow` header, or /openapi.json"
            return Problem(405, "method", detail, headers=err.headers or {})
        case HTTPException(status_code=404):
            return Problem(404, "unknown_route", "a route of this service is required; see /openapi.json")
        case _:
            detail = (
                "something unexpected happened, which is no fault of the request; the log has it by its id"
            )
            return Problem(500, "unexpected", detail)
