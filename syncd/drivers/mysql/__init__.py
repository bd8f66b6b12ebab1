"""MySQL, MariaDB and all that speak their protocol."""
