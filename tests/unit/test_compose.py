"""docker-compose.yml is not run in CI: it is held against the servers that the tests run, which are."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ruamel.yaml import YAML

from syncd.sinks.clickhouse.checks import OLDEST
from syncd.testing.servers import mariadb, mysql

ROOT = Path(__file__).parents[2]


def read(name: str) -> dict[str, Any]:
    data: dict[str, Any] = YAML(typ="safe").load((ROOT / name).read_text())
    return data


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read("docker-compose.yml")


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


@pytest.mark.parametrize(("service", "row_log"), [("mysql", mysql.ROW_LOG), ("mariadb", mariadb.ROW_LOG)])
def test_log_is_written_as_in_the_tests(services: dict[str, Any], service: str, row_log: tuple[str, ...]) -> None:
    command = services[service]["command"]
    assert set(row_log) <= set(command)
    assert any(option.startswith("--log-bin=") for option in command)


def test_servers_have_different_ids(services: dict[str, Any]) -> None:
    options = [o for s in ("mysql", "mariadb") for o in services[s]["command"] if o.startswith("--server-id=")]
    assert len(set(options)) == 2


def numbers(image: str) -> tuple[int, ...]:
    """mysql:8.4 -> (8, 4)"""
    return tuple(map(int, image.rpartition(":")[2].split(".")[:2]))


def test_versions_lie_within_those_of_the_fixtures(services: dict[str, Any]) -> None:
    """Where a server of the same version is not tested: between two that are, or up to the engine that is."""
    images = {name: service["image"] for name, service in services.items() if "image" in service}
    assert images["mariadb"] == mariadb.MariaDB.image
    assert numbers(mysql.MySQL80.image) < numbers(images["mysql"]) < numbers(mysql.MySQL9.image)
    assert OLDEST <= numbers(images["clickhouse"]) <= numbers(version("chdb-core"))


def test_what_is_not_tested_is_said(services: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "tested-with.md").read_text()
    expected = page.partition("## Expected to work, not run here")[2].partition("\n## ")[0]
    names = {"mysql": "MySQL", "mariadb": "MariaDB", "clickhouse": "ClickHouse server", "oceanbase": "seekdb"}
    assert set(names) == {name for name, service in services.items() if "image" in service}
    for service, name in names.items():
        assert f"{name} {services[service]['image'].rpartition(':')[2]}" in expected


def test_every_server_is_pinned_checked_and_local(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if "build" in service:
            continue
        assert re.search(r":\d", service["image"]), name
        assert service["healthcheck"]["test"], name
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), name


def test_ports_do_not_clash(services: dict[str, Any]) -> None:
    published = [port.split(":")[1] for service in services.values() for port in service.get("ports", [])]
    assert len(set(published)) == len(published)


def test_syncd_waits_for_healthy_servers(services: dict[str, Any]) -> None:
    for name, condition in services["syncd"]["depends_on"].items():
        assert "healthcheck" in services[name]
        assert condition == {"condition": "service_healthy"}


def test_mounts_and_volumes_exist(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert (ROOT / source).is_dir() if source.startswith(".") else source in compose["volumes"], name
        for config in service.get("configs", []):
            assert config["source"] in compose["configs"], name


def test_job_is_the_mounted_one_and_reaches_the_services(services: dict[str, Any]) -> None:
    syncd = services["syncd"]
    folder = syncd["volumes"][0].split(":")[1]
    path = syncd["command"][-1]
    assert path.startswith(f"{folder}/")
    job = read(f"configs/{path.removeprefix(folder)}")
    for url, port in [(job["source"]["mysql"]["url"], 3306), (job["sinks"]["olap"]["clickhouse"]["url"], 8123)]:
        address = urlsplit(url)
        assert address.hostname in services
        assert address.port == port
        assert services[address.hostname]["ports"][0].endswith(f":{port}")
    assert job["sinks"]["olap"]["clickhouse"]["user"] == services["clickhouse"]["environment"]["CLICKHOUSE_USER"]


def test_passwords_are_one_variable(services: dict[str, Any]) -> None:
    used = {v for s in services.values() for k, v in s.get("environment", {}).items() if "PASSWORD" in k}
    assert used == {"${SYNCD_PASSWORD:-syncd}"}


def test_image_is_built_from_the_lock_without_rights() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert any("--require-hashes" in line and "-r requirements.lock" in line for line in lines)
    assert "USER syncd" in lines
    needed = {w for line in lines if line.startswith("COPY ") for w in line.split()[1:-1]}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert needed == kept
