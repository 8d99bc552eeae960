# The image of fal-exporter: docker build -t fal-exporter .
# Pinned: --build-arg BASE_DIGEST=sha256:... (of BASE_IMAGE). Behind a package mirror: --build-arg PIP_INDEX_URL=...
# Run read-only, with the ledger on a volume:
#   docker run --read-only -e FAL_KEY -p 8080:8080 -v fal-exporter:/data fal-exporter
ARG BASE_IMAGE=python:3.13-slim-bookworm
ARG BASE_DIGEST=""

# pip lives in this stage alone: the environment that is copied on has the exporter and its dependencies, no installer.
FROM ${BASE_IMAGE}${BASE_DIGEST:+@${BASE_DIGEST}} AS build
# Read by pip; unset unless given.
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
# The optional parts of the package to install, of which each is pinned; the database driver is in, so that one image serves
# both ledgers.
ARG EXTRAS=postgresql
WORKDIR /src
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/fal-exporter && mkdir /data
# Versions and hashes of everything that is installed: the same files at every build. `tox -e lock` renews them.
COPY deploy/image deploy/image
RUN /opt/build/bin/pip install --no-cache-dir --only-binary=:all: --require-hashes -r deploy/image/build-requirements.txt \
    && IFS=, && for extra in postgresql ${EXTRAS}; do \
        case "${extra}" in postgresql) locked=requirements.txt ;; *) locked="requirements-${extra}.txt" ;; esac; \
        /opt/build/bin/pip --python /opt/fal-exporter/bin/python install --no-cache-dir --only-binary=:all: \
            --require-hashes -r "deploy/image/${locked}" || exit 1; \
    done
COPY pyproject.toml README.md LICENSE ./
COPY deploy deploy
COPY exporter exporter
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/build/bin/pip --python /opt/fal-exporter/bin/python install --no-cache-dir --no-index \
        "fal-exporter[${EXTRAS}] @ file://$(echo /dist/*.whl)"

FROM ${BASE_IMAGE}${BASE_DIGEST:+@${BASE_DIGEST}}
ARG BASE_IMAGE
ARG BASE_DIGEST
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="fal-exporter" \
      org.opencontainers.image.description="Prometheus exporter and FinOps sidecar for fal usage and billing, with an exact ledger" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
COPY --from=build /opt/fal-exporter /opt/fal-exporter
# A new volume takes over the owner of the folder it is mounted on.
COPY --from=build --chown=65532:65532 /data /data
ENV PATH=/opt/fal-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=1 \
    MALLOC_TRIM_THRESHOLD_=131072 \
    FAL_EXPORTER_LEDGER_URL=sqlite:////data/ledger.sqlite
WORKDIR /data
VOLUME /data
EXPOSE 8080 9090
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["fal-exporter", "healthcheck"]
ENTRYPOINT ["fal-exporter"]
CMD ["serve"]
