# syntax=docker/dockerfile:1
# One image for every role; the role is the argument: serve, consume [all|logger|stats|leaderboard], migrate, verify, ...
#     docker build -t gamemetrics .
# For a build that never changes, give the base by digest: --build-arg PYTHON=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY deploy/image/ deploy/image/
COPY migrations/ migrations/
COPY pipeline/ pipeline/
RUN deploy/image/install.sh /opt/gamemetrics

FROM ${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gamemetrics" \
      org.opencontainers.image.description="A game-event pipeline: every event counted exactly once" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/gamemetrics /opt/gamemetrics
COPY deploy/image/healthcheck.py /opt/gamemetrics/healthcheck.py
# HOST: inside a container loopback reaches nobody; :: is both families. Nothing is written but to /tmp, so the root can be read-only.
ENV PATH=/opt/gamemetrics/bin:$PATH \
    HOST=:: \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "/opt/gamemetrics/healthcheck.py"]
ENTRYPOINT ["gamemetrics"]
CMD ["consume", "all"]
