"""The embedded queue: durable lanes for the processes of one machine, nothing to install.

    DIR/queue.db      SQLite in WAL mode: what exists and where, offsets, leases, state; its commit is the only one
    DIR/bodies/*.seg  message bodies, written and synced before the commit that names them; each file has one writer
    DIR/reserve       disk held back for offsets and state when the disk is full
    DIR/waiting/      one named pipe for each instance that waits
    DIR/write.lock    whoever holds it may write to queue.db
    DIR/next.lock     whoever holds it is the next to get write.lock

See `docs/queues/embedded.md` for what each file promises and `docs/adr/0010-embedded-queue.md` for why it is so.
"""

from syncd.mq.embedded.options import Options
from syncd.mq.embedded.queue import EmbeddedQueue

__all__ = ["EmbeddedQueue", "Options"]
