# syncd with the packages of requirements.lock, as a user without rights. Built by docker-compose.yml; not by our CI.
FROM python:3.12-slim AS wheels
WORKDIR /build
COPY requirements.lock ./
RUN pip download --require-hashes --only-binary :all: --no-deps --dest /wheels -r requirements.lock \
 && pip install --no-index --find-links /wheels hatchling
COPY pyproject.toml README.md LICENSE ./
COPY syncd ./syncd
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.12-slim
# of all that is locked, only what runs: the tools for tests stay behind
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels "syncd[mysql,clickhouse]"
RUN useradd --system --create-home --home-dir /var/lib/syncd syncd
USER syncd
WORKDIR /var/lib/syncd
VOLUME /var/lib/syncd
STOPSIGNAL SIGTERM
ENTRYPOINT ["syncd"]
CMD ["--help"]
