"""What can be declared about a webhook."""

from typing import Literal, get_args

from pydantic import Field

from ml_platform.kernel.durations import Duration
from ml_platform.kernel.spec import DurationField, Name, NamedSpec

Event = Literal["gate_closed", "check_warned", "model_not_updated", "release_changed"]
EVENTS: tuple[Event, ...] = get_args(Event)


class WebhookSpec(NamedSpec):
    """An address that is told what people have to know, once for each event.

    The address itself is a secret of the environment: `ML_PLATFORM_WEBHOOKS__ON_CALL` for a webhook named `on_call`.
    """

    name: Name = Field(description="Name of the webhook; its sensor is `notifications_<name>`.")
    format: Literal["json", "slack"] = Field(
        default="json",
        description="What is posted: one JSON object for machines, or Slack's `text` and `blocks`.",
    )
    events: tuple[Event, ...] = Field(
        default=EVENTS,
        min_length=1,
        description="gate_closed: a blocking check failed. check_warned: one that holds nothing up failed, such as "
        "concept drift. model_not_updated: a model was refused, or has no version "
        "`grace` after its cron. release_changed: another version is the champion.",
    )
    assets: tuple[str, ...] = Field(
        default=("*",),
        min_length=1,
        description="Of which assets: keys or patterns such as `models/*`; what changes a release is of `releases/…`.",
    )
    url_setting: Name | None = Field(
        default=None,
        description="Whose address to use: `ML_PLATFORM_WEBHOOKS__<this>`; default: the webhook's own name.",
    )
    grace: DurationField = Field(
        default=Duration.parse("2h"),
        description="How long after its cron a model may take before it counts as not updated.",
    )
    timeout: DurationField = Field(
        default=Duration(5),
        ge=Duration(1),
        le=Duration(10),
        description="How long to wait for a connection, and as long again for the answer: 1s to 10s.",
    )

    @property
    def url_name(self) -> str:
        """Under which name the settings have the address."""
        return self.url_setting or self.name

    @property
    def url_variable(self) -> str:
        """The environment variable that has the address."""
        return f"ML_PLATFORM_WEBHOOKS__{self.url_name.upper()}"
