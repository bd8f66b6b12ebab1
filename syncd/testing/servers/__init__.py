"""Real database servers without Docker, root or an installation, for `syncd demo` and for tests.

Only the standard library is used, so that this package works before anything is installed.

    with MariaDB() as server:
        connect(host="127.0.0.1", port=server.port, user="root")
"""

from syncd.testing.servers.base import Server
from syncd.testing.servers.errors import ServerUnavailable
from syncd.testing.servers.mariadb import MariaDB
from syncd.testing.servers.mysql import MySQL9, MySQL80
from syncd.testing.servers.oceanbase import OceanBase

__all__ = ["MariaDB", "MySQL9", "MySQL80", "OceanBase", "Server", "ServerUnavailable"]
