"""`start: {position: ...}`: only where a transaction begins, or nothing follows."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from syncd.errors import FatalError
from tests.integration.log_tools import here, log_end
from tests.integration.mysql_tools import opened
from tests.services.database import Database


@pytest.mark.parametrize("statement_in_log", [False, True])
def test_every_event_of_the_log(database: Database, tmp_path: Path, statement_in_log: bool) -> None:
    """The borders of transactions are taken; no other event, and no byte between two events."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT) ENGINE=InnoDB")
    file, begin = here(log_end(database))
    variable = "binlog_annotate_row_events" if database.server.flavour == "mariadb" else "binlog_rows_query_log_events"
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET SESSION {variable} = {int(statement_in_log)}")
        for sql in ("INSERT INTO t VALUES (1, 1), (2, 2)", "UPDATE t SET v = 3", "DELETE FROM t WHERE id = 1"):
            cursor.execute("BEGIN")
            cursor.execute(sql)
            cursor.execute("UPDATE t SET v = v + 1")
            cursor.execute("COMMIT")
        cursor.execute("ALTER TABLE t ADD w INT")
    events = [(row[1], row[2], row[4]) for row in database.query(f"SHOW BINLOG EVENTS IN '{file}' FROM {begin}")]
    borders = [at for at, kind, _ in events if "gtid" in kind.lower()]
    assert len(borders) == 4
    assert len(events) >= 20
    with opened(database, tmp_path) as source:
        for at in [*borders, events[-1][2]]:
            assert here(source.place(f"{file}:{at}", 1).position) == (file, at)
        for at, kind, _ in events:
            if at not in borders:
                with pytest.raises(
                    FatalError, match=f"middle of a transaction in the log of .*: a {kind} event begins"
                ):
                    source.place(f"{file}:{at}", 1)
        with pytest.raises(FatalError, match=f"{file}:{begin + 3} is no place in the log of"):
            source.place(f"{file}:{begin + 3}", 1)
        with pytest.raises(FatalError, match=r"binlog\.009999:4 is no place in the log of .*Could not find"):
            source.place("binlog.009999:4", 1)
