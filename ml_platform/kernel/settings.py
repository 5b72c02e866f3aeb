"""Where things are: the only reader of the environment.

Every setting has an embedded default below ML_PLATFORM_HOME, so that a laptop needs none of them;
a cluster sets the few that differ.
"""

import datetime as dt
import getpass
import re
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.process import set_library_defaults
from ml_platform.kernel.project import OWN, Project, project_of

DEVELOPMENT = "development"
_PROJECT = "ml_platform"
PROJECT_ROOT = OWN.root
"""The platform's own files; those of the project that is worked on are below `declared_in`."""


class ServingSettings(BaseModel):
    """How the service answers: `ML_PLATFORM_SERVING__PORT` is `port` here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address that the service listens on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port; 0 takes a free one and says which.")
    models: str = Field(
        default="", description="Names of the models to serve, with commas; default: all registered."
    )
    keys: SecretStr | None = Field(
        default=None, description="Hashed API keys, as `ml-platform serving-key` prints them, with commas."
    )
    keys_file: Path | None = Field(default=None, description="The same in a file, one on a line.")
    follow_seconds: float = Field(
        default=2, gt=0, le=60, description="How often the registry is asked for the champion."
    )
    max_batch: int = Field(default=1000, ge=1, description="Rows in one request.")
    max_body_kb: int = Field(default=1024, ge=1, description="Kilobytes of one request's body.")
    timeout_seconds: float = Field(default=2, gt=0, description="How long one request may take.")
    online_timeout_seconds: float = Field(
        default=0.25, gt=0, description="How long the online store may take to answer or to be reached."
    )
    threads: int = Field(
        default=1,
        ge=1,
        description="Batches of waiting requests scored at once; more of them help where the store is far away.",
    )
    log_queue: int = Field(default=10_000, ge=1, description="Predictions that may wait to be logged.")
    log_seconds: float = Field(
        default=5,
        gt=0,
        description="How often waiting predictions are written to the lake: what a crash may lose.",
    )
    shadow: str = Field(
        default="",
        description="Alias of a version that is scored in shadow, such as `challenger`; default: none.",
    )
    at: dt.datetime | None = Field(
        default=None,
        description="Answer as of this time, to replay a day of the past; UTC where it has no zone; default: now.",
    )

    @field_validator("at")
    @classmethod
    def _in_utc(cls, at: dt.datetime | None) -> dt.datetime | None:
        return at.replace(tzinfo=dt.UTC) if at is not None and at.tzinfo is None else at


class Settings(BaseSettings):
    """One environment: its home folder, its stores and the limits of the compute engine."""

    model_config = SettingsConfigDict(
        env_prefix="ML_PLATFORM_",
        env_nested_delimiter="__",
        env_nested_max_split=1,
        frozen=True,
        extra="ignore",
    )

    project_folder: Path | None = Field(
        default=None,
        description="Folder of the project whose declarations count, with its pyproject.toml; default: the nearest "
        "above the working folder, or the platform's own.",
    )
    home: Path = Field(
        default_factory=lambda given: project_of(given.get("project_folder")).root / ".ml_platform",
        description="Everything embedded lives here; default: `.ml_platform` in the project.",
    )
    environment: str = Field(
        default=DEVELOPMENT,
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="Such as `production` or `branch_42`: its lake, Feast project and models are apart from those of "
        "others in the same stores.",
    )
    lake: str | None = Field(
        default=None,
        description="URI of the lake's root, below which each environment has its own; default HOME/lake.",
    )
    region: str | None = Field(
        default=None,
        validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="Region of an object store; S3-compatible ones take any. Keys and AWS_ENDPOINT_URL are AWS's too.",
    )
    mlflow_tracking_uri: str | None = Field(
        default=None, repr=False, description="Default: SQLite below HOME/mlflow."
    )
    mlflow_artifacts: str | None = Field(
        default=None, description="Artifact root; default HOME/mlflow/artifacts."
    )
    feast_registry: str | None = Field(
        default=None, repr=False, description="SQLAlchemy URL; default SQLite below HOME/feast."
    )
    feast_project: str | None = Field(
        default=None,
        description="Feast project; default: ml_platform_ENVIRONMENT, which alone others than development "
        "may have; in development ml_platform, or a name that begins otherwise.",
    )
    online_store: SecretStr | None = Field(
        default=None,
        description="redis://[[user]:password@]host[:port][/db], rediss:// for TLS; default SQLite below HOME/feast.",
    )
    dagster_storage: SecretStr | None = Field(
        default=None,
        description="postgresql://… that holds runs and the event log, in a schema for each environment; default "
        "SQLite in the folder of the Dagster instance.",
    )
    dagster_folder: Path | None = Field(
        default=None,
        description="Folder of the Dagster instance; default HOME/dagster, and HOME/dagster_ENVIRONMENT for others "
        "than development.",
    )
    serving: ServingSettings = Field(default=ServingSettings(), description="How the service answers.")
    otlp_endpoint: str | None = Field(
        default=None, description="OpenTelemetry collector that traces are sent to, over HTTP; default: none."
    )
    memory_limit: str = Field(default="2GB", description="DuckDB's memory limit in one step.")
    threads: int | None = Field(default=None, description="DuckDB's threads; default: all cores.")
    actor: str | None = Field(default=None, description="Who acts, for the ledgers; default: the login name.")
    user_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z][A-Za-z0-9-]*$",
        description="Header in which a proxy names who has signed in, such as X-Forwarded-Email, where nobody reaches "
        "the Dagster UI around it; default: none, and nobody is believed.",
    )
    executor: Literal["in_process", "multiprocess", "k8s"] = Field(
        default="in_process",
        description="Where the steps of a run are executed: in its process, in one each, or in a pod each.",
    )
    automation: bool = Field(
        default=False,
        description="Whether the daily chain runs by itself; without it, somebody starts its sensor in the UI.",
    )
    webhooks: dict[str, SecretStr] = Field(
        default_factory=dict[str, SecretStr],
        description="Addresses of declared webhooks by name: ML_PLATFORM_WEBHOOKS__ON_CALL is that of `on_call`.",
    )
    ui: str | None = Field(default=None, description="Address of the Dagster UI, for links in messages.")

    @cached_property
    def declared_in(self) -> Project:
        """The project whose declarations count."""
        return project_of(self.project_folder)

    @cached_property
    def root(self) -> Path:
        return self.home.expanduser().resolve()

    @property
    def lake_uri(self) -> str:
        if self.lake is not None:
            return f"{self.lake.rstrip('/')}/{self.environment}"
        return str(self.root / ("lake" if self.environment == DEVELOPMENT else f"lake_{self.environment}"))

    @property
    def project(self) -> str:
        """The Feast project of this environment, which is also its experiment in MLflow and part of its online keys."""
        return self.feast_project or self._own_project

    @property
    def _own_project(self) -> str:
        return _PROJECT if self.environment == DEVELOPMENT else f"{_PROJECT}_{self.environment}"

    def registered_name(self, model: str) -> str:
        """What a declared model is called in the registry, so that no environment moves an alias of another."""
        return model if self.environment == DEVELOPMENT else f"{self.environment}.{model}"

    def declared_name(self, registered: str) -> str | None:
        """The declared name of a registered model; None for one of another environment."""
        model = declared_name(registered)
        return model if self.registered_name(model) == registered else None

    @property
    def spill_folder(self) -> Path:
        return self.root / "spill"

    @property
    def dagster_home(self) -> Path:
        if self.dagster_folder is not None:
            return self.dagster_folder.expanduser().resolve()
        return self.root / ("dagster" if self.environment == DEVELOPMENT else f"dagster_{self.environment}")

    @property
    def tracking_uri(self) -> str:
        return _with_driver(self.mlflow_tracking_uri or f"sqlite:///{self.root}/mlflow/mlflow.db")

    @property
    def artifact_root(self) -> str:
        return self.mlflow_artifacts or str(self.root / "mlflow" / "artifacts")

    @property
    def registry_url(self) -> str:
        return _with_driver(self.feast_registry or f"sqlite:///{self.root}/feast/registry.db")

    @property
    def online_store_path(self) -> Path:
        return self.root / "feast" / "online_store.db"

    @property
    def redis_url(self) -> str | None:
        """The address of the Redis that is the online store, which may hold a password; None for the embedded store.

        Raises InputError for what is no such address.
        """
        given = self.online_store.get_secret_value().strip() if self.online_store is not None else ""
        return require_redis_url(given, name="ML_PLATFORM_ONLINE_STORE") if given else None

    @property
    def who(self) -> str:
        """Who runs this process; who had a run launched is said by `gates.actors`."""
        return self.actor or getpass.getuser()

    def webhook(self, name: str) -> str | None:
        """The address of a webhook, which is a secret; None when none is set."""
        found = self.webhooks.get(name)
        return (found.get_secret_value().strip() or None) if found is not None else None

    def _require_own_project(self) -> None:
        development = self.environment == DEVELOPMENT
        others = self.project.startswith(f"{_PROJECT}_") if development else self.project != self._own_project
        if others:
            wanted = (
                f"{_PROJECT}, or a name that does not begin with it," if development else self._own_project
            )
            raise InputError(
                f"ML_PLATFORM_FEAST_PROJECT: {wanted} is required in the environment {self.environment}, which else "
                f"would publish into another's keys; got {self.project}. Nothing was made; leave it out, or set "
                f"ML_PLATFORM_ENVIRONMENT to the environment that is meant"
            )

    def prepare(self) -> "Settings":
        """Make the folders that embedded stores expect to find, and set defaults of libraries.

        Raises InputError, with nothing made, for a folder in which a store would fail or write elsewhere.
        """
        _require_usable(str(self.root), name="ML_PLATFORM_HOME")
        _require_usable(self.lake_uri, name="ML_PLATFORM_LAKE")
        self._require_own_project()
        if self.lake_uri.startswith("s3://") and self.region is None:
            raise InputError(
                f"AWS_REGION: a region is required for a lake at {self.lake_uri}; none is set, and clients would ask "
                f"AWS for the bucket's. Nothing was made; set it, to us-east-1 where the store has none"
            )
        _ = self.redis_url
        set_library_defaults()
        for folder in (self.dagster_home, *(self.root / name for name in ("feast", "mlflow", "spill"))):
            folder.mkdir(parents=True, exist_ok=True)
        return self


def declared_name(registered: str) -> str:
    """What a model is declared as that some environment registered: declared names have no dot."""
    return registered.rpartition(".")[2]


def _with_driver(url: str) -> str:
    """The driver of Postgres that is installed; without one named, some ask for another."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def _require_usable(path: str, *, name: str) -> None:
    """Delta's writer fails on local paths with these, and SQLite's URLs end at a question mark; nothing quotes them."""
    refused = [] if "://" in path else re.findall(r"[]\[\\^|?]|%[0-9A-Fa-f]{2}", path)
    if refused:
        raise InputError(
            f"{name}: a folder is required whose path has none of [ ] \\ ^ | ? and no % before two hexadecimal digits; "
            f"{path} has {' '.join(dict.fromkeys(refused))}. Nothing was made; take another folder"
        )


def require_redis_url(url: str, *, name: str) -> str:
    """The address as it is; InputError, which does not repeat it because of its password, for one that is none."""
    wrong = _wrong_with(url)
    if wrong:
        raise InputError(
            f"{name}: redis://[[user]:password@]host[:port][/db] is required, or rediss:// for TLS, with %40 for @ in "
            f"a password; of what is set, {', '.join(wrong)}. Nothing was read or written; set it right, or leave it "
            f"out for the embedded store"
        )
    return url


def _wrong_with(url: str) -> list[str]:
    """What speaks against an address of a Redis."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ["host or port cannot be read"]
    told = {
        f"the scheme is {parts.scheme!r}": parts.scheme not in ("redis", "rediss"),
        "the host is missing": not parts.hostname,
        "the port is 0": port == 0,
        "the database is no number": not re.fullmatch(r"/?\d*", parts.path),
        "there are other options than ssl_…": bool(parts.fragment)
        or not all(key.startswith("ssl_") for key in parse_qs(parts.query)),
    }
    return [text for text, wrong in told.items() if wrong]


def settings() -> Settings:
    """The settings of this process, read afresh so that a changed environment is seen."""
    return Settings()
