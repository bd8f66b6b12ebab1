"""MySQL and MariaDB as a source."""

from syncd.sources.mysql.source import MySQLSource

__all__ = ["MySQLSource"]
