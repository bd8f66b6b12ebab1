"""Which queue a data directory works with: `queue.json`, so that commands without a job file open the same one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from syncd import plugins
from syncd.config import Service
from syncd.config.document import Document, Key
from syncd.config.faults import raise_all
from syncd.config.secrets import Resolver, without_secrets
from syncd.engine.build import Parts, data_directory, unusable
from syncd.errors import StateError
from syncd.spi import Context, Queue


@dataclass(frozen=True, slots=True)
class QueueUsed:
    """`options`: as the job file `path` says them, with references to secrets as they are written."""

    plugin: str
    path: str
    options: Mapping[str, Any] = field(repr=False)
    incarnation: str

    def make(self, service: Service) -> Queue:
        """The queue, not open yet. Faults: a secret that it needs cannot be read."""
        document = Document(self.path, "", dict(self.options))
        options = Resolver(document).resolve()
        raise_all(document.faults)
        cls = plugins.load("queue", self.plugin, service.plugin_paths)
        queue: Queue = cls(cls.Options.model_validate(options), Context("", service.data / "queue"))
        return queue

    def check(self, service: Service, queue: Queue) -> None:
        """StateError: the open queue is another one, so that what was saved would seem lost."""
        if queue.incarnation() != self.incarnation:
            raise StateError(
                f"{service.data}: its queue is not the one that the last start of syncd worked with",
                hint="put the queue's files back where they were; or, to begin anew, drop the targets and delete "
                f"{_file(service)}",
            )


def _file(service: Service) -> Path:
    return service.data / "queue.json"


@contextmanager
def opened(queue: Queue, service: Service) -> Iterator[Queue]:
    """StateError: it is not the queue that the last start worked with; somebody took its files away."""
    used = recall(service)
    if used is None:
        raise StateError(
            f"{service.data} is not the directory that this start of syncd worked with: it holds no queue.json",
            hint="put the data directory, or the link to it, back where it was",
        )
    queue.open()
    try:
        used.check(service, queue)
        yield queue
    finally:
        queue.close()


def recall(service: Service) -> QueueUsed | None:
    """What the last start worked with; None before the first one."""
    try:
        text = _file(service).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unusable(service.data, error) from error
    try:
        return QueueUsed(**json.loads(text))
    except (ValueError, TypeError) as error:
        hint = "start the daemon with the job files and queue that it had, when this file is gone"
        raise StateError(f"{_file(service)} is damaged: {error}", hint=hint) from error


def settle(parts: Parts, queue: Queue) -> None:
    """At a start: the open queue is the one of the last start, whatever its settings are now, and is remembered.

    ConfigError, at its place in the job file: the settings lead to another queue. StateError: its files are others.
    """
    service, job = parts.service, parts.job
    key: Key = ("queue", job.queue.plugin)
    options = job.document.get(key) or {}
    now = QueueUsed(job.queue.plugin, str(Path(job.path).absolute()), options, queue.incarnation())
    used = recall(service)
    if used is not None and used.incarnation != now.incarnation:
        names = {*used.options, *options} if used.plugin == now.plugin else ()
        others = [name for name in sorted(names) if used.options.get(name) != options.get(name)]
        if used.plugin == now.plugin and not others:
            used.check(service, queue)
        before = json.dumps(without_secrets({used.plugin: {n: used.options.get(n, "by default") for n in others}}))
        raise job.fault(
            (*key, *others) if len(others) == 1 else key,
            f"this is another queue than {service.data} works with ({before}); what is saved would seem lost",
            code="C140",
            hint="put it back, or move the queue's files there; or, to begin anew, drop the targets and delete "
            f"{_file(service)}",
        )
    if now != used:
        with data_directory(_file(service)):
            _write(_file(service), json.dumps(asdict(now)))


def _write(path: Path, text: str) -> None:
    """Durably, whole or not at all, and readable by its user only: an option may be a password in the clear."""
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
