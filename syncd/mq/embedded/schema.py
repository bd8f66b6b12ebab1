"""Tables of queue.db. `VERSION` is raised with every change that an older syncd could not read."""

APPLICATION = 0x53594E51  # "SYNQ"
VERSION = 2

# Numbers of 64 bits without sign (seq, trace) are stored as SQLite's signed ones: see `rows.signed`.
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- `published` counts publishes: what `wait` watches.
CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, published INTEGER NOT NULL DEFAULT 0);

-- `tail`: one past the last offset given out. `rows`, `bytes`: of all messages that it ever got.
CREATE TABLE lane (
    id INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL,
    tag TEXT NOT NULL,
    queue INTEGER NOT NULL,
    tail INTEGER NOT NULL DEFAULT 0,
    rows INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, tag, queue)
);

-- `size`: length of the file up to the last body that a commit named. `live`: bytes of it that messages still name.
CREATE TABLE segment (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    live INTEGER NOT NULL
);

-- `stored`: seconds since 1970, only for how long finished messages stay. `rows_before`, `bytes_before`: what the lane
-- had got before it, so that what a group has not finished is known without reading it.
CREATE TABLE message (
    lane INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    database TEXT NOT NULL,
    name TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    trace INTEGER NOT NULL,
    time INTEGER NOT NULL,
    captured INTEGER NOT NULL,
    source TEXT NOT NULL,
    stored INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    place INTEGER NOT NULL,
    length INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    rows_before INTEGER NOT NULL DEFAULT 0,
    bytes_before INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (lane, offset)
) WITHOUT ROWID;
CREATE INDEX message_segment ON message (segment);

-- `tags`: JSON list, NULL for all.
CREATE TABLE subscription (name TEXT PRIMARY KEY, topic INTEGER NOT NULL, tags TEXT) WITHOUT ROWID;

-- One row for each lane that a group is subscribed to. `offset`: of the next message to read.
CREATE TABLE progress (
    name TEXT NOT NULL,
    lane INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (name, lane)
) WITHOUT ROWID;
CREATE INDEX progress_lane ON progress (lane);

CREATE TABLE hop (
    id INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL,
    trace INTEGER NOT NULL,
    operator TEXT NOT NULL,
    tag TEXT,
    queue INTEGER,
    offset INTEGER NOT NULL,
    at INTEGER NOT NULL,
    took INTEGER NOT NULL,
    worker TEXT NOT NULL,
    outcome TEXT NOT NULL
);
CREATE INDEX hop_trace ON hop (topic, trace);

-- `renewed`: seconds since boot; a lease of another boot is dead. An empty owner: released.
CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    ttl REAL NOT NULL,
    boot TEXT NOT NULL,
    renewed REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL);
"""

UPGRADES = {
    1: """
ALTER TABLE lane ADD COLUMN rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE lane ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN rows_before INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN bytes_before INTEGER NOT NULL DEFAULT 0;
UPDATE message SET rows_before = sums.rows - message.rows, bytes_before = sums.bytes - message.length FROM (
    SELECT lane, offset, SUM(rows) OVER so_far AS rows, SUM(length) OVER so_far AS bytes
    FROM message WINDOW so_far AS (PARTITION BY lane ORDER BY offset)
) sums WHERE message.lane = sums.lane AND message.offset = sums.offset;
UPDATE lane SET rows = sums.rows, bytes = sums.bytes FROM (
    SELECT lane, SUM(rows) AS rows, SUM(length) AS bytes FROM message GROUP BY lane
) sums WHERE lane.id = sums.lane;
""",
}
"""Format -> what makes the next one of it."""
