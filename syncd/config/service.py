"""The service file, `syncd.yaml`: what holds for all jobs of one machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from syncd.config import later
from syncd.config.document import parse, read_text
from syncd.config.faults import raise_all
from syncd.config.secrets import Resolver, without_extras
from syncd.config.spec import word
from syncd.config.translate import Translator
from syncd.config.values import Flag, Seconds, Section, refuse
from syncd.errors import ConfigError

LISTEN = "127.0.0.1:7962"
OFF = "off"
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):[0-9]{1,5}")


class Log(Section):
    """What syncd writes to standard error; `--log-level` and `--log-format` go before it."""

    level: Annotated[Literal["debug", "info", "warning", "error"], word("debug", "info", "warning", "error")] = "info"
    """The least level that is shown."""
    format: Annotated[Literal["auto", "text", "json"], word("auto", "text", "json")] = "auto"
    """`auto`: text on a terminal, one JSON object a line everywhere else."""


def _listen(value: Any) -> Any:
    if value != OFF and not (isinstance(value, str) and _ADDRESS.fullmatch(value) and _port(value) < 1 << 16):
        hint = f"as in {LISTEN}; 0.0.0.0:{_port(LISTEN)} is every address of the machine; off serves nothing"
        refuse(f"'{value}' is not HOST:PORT", code="C108", hint=hint)
    return value


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


class Metrics(Section):
    """`/metrics` for Prometheus, `/healthz` and `/readyz`, over HTTP: docs/metrics.md."""

    listen: Annotated[str, BeforeValidator(_listen)] = LISTEN
    """The address, HOST:PORT; port 0 is any free one, which the log names. `off`: nothing is served. Nobody is asked
    for a password there, so that other machines should see it through a proxy only. Where the default port is taken
    the daemon warns and goes on without; an address written here that cannot be had is an error."""
    lanes: Flag = True
    """Each lane's lag beside each table's: for a table with eight queues 16 numbers of a sink instead of 2."""
    ready_wait: Seconds = 60.0
    """What waits longer than this makes `/readyz` answer 503."""

    @property
    def address(self) -> tuple[str, int] | None:
        """None: off."""
        if self.listen == OFF:
            return None
        return self.listen.rpartition(":")[0].strip("[]"), _port(self.listen)


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
    """`/metrics`, `/healthz` and `/readyz`."""
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
    purge_warning: Seconds = 6 * 3600.0
    """A warning comes, in the log and in `syncd status`, when less than this is left until the source may purge its log
    at a job's saved position; or less than half of the time for which it keeps its log, where that is shorter."""
    queue_warning: Seconds = 3600.0
    """The same when less than this is left until the queue is full, at the pace of the last minutes."""


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
