"""The service file, `syncd.yaml`: what holds for all jobs of one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from syncd.config import later
from syncd.config.document import parse, read_text
from syncd.config.faults import raise_all
from syncd.config.secrets import Resolver, without_extras
from syncd.config.spec import word
from syncd.config.translate import Translator
from syncd.config.values import Seconds, Section
from syncd.errors import ConfigError


class Log(Section):
    """What syncd writes to standard error; `--log-level` and `--log-format` go before it."""

    level: Annotated[Literal["debug", "info", "warning", "error"], word("debug", "info", "warning", "error")] = "info"
    """The least level that is shown."""
    format: Annotated[Literal["auto", "text", "json"], word("auto", "text", "json")] = "auto"
    """`auto`: text on a terminal, one JSON object a line everywhere else."""


class Metrics(Section):
    """Where metrics are served."""

    port: int | None = Field(default=None, ge=1, le=65535)
    """The port on the local address."""


class Service(Section):
    """The service file. Without one the defaults hold."""

    data: Path = Path("syncd-data")
    """The data directory: queue, state, leases. A relative path counts from the service file."""
    jobs: Path = Path("jobs")
    """The folder of job files. A relative path counts from the service file."""
    plugin_paths: list[Path] = Field(default_factory=list)
    """Folders with plugins of your own, one `<name>.py` each. Relative paths count from the service file."""
    log: Log = Field(default_factory=Log)
    """What syncd writes to standard error."""
    metrics: Metrics = Field(default_factory=Metrics)
    """Where metrics are served."""
    readers: int | None = Field(default=None, ge=1, le=256)
    """Snapshot readers of one job, unless the job says so itself; by default one a processor core, at most four."""
    workers: int = Field(default=2, ge=1, le=256)
    """Delivery workers of one sink."""
    heartbeat: Seconds = 1.0
    """How often a worker shows that it lives; `syncd status` names one that is not heard for three of these, and a step
    that takes as long."""
    lease: Seconds = 10.0
    """After this long without a sign of life another process may take over."""
    drain: Seconds = 30.0
    """How long a stop waits for what is in flight."""


def load_service(path: Path | None) -> Service:
    """The service file, with paths made absolute; defaults relative to the current folder for None."""
    if path is None:
        return _absolute(Service(), Path.cwd())
    document = parse(read_text(path), str(path))
    resolver = Resolver(document)
    data = without_extras(resolver.resolve())
    faults: list[ConfigError] = []
    service = None
    try:
        service = Service.model_validate(data)
    except ValidationError as error:
        faults = Translator(document, resolver.secrets, Service).faults(error)
    known = {fault.key for fault in faults}
    raise_all([*document.faults, *faults, *(f for f in later.of_service(document, data) if f.key not in known)])
    assert service is not None
    return _absolute(service, path.resolve().parent)


def _absolute(service: Service, base: Path) -> Service:
    paths = {"data": base / service.data, "jobs": base / service.jobs}
    return service.model_copy(update={**paths, "plugin_paths": [base / path for path in service.plugin_paths]})
