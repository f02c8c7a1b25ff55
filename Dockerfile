# The image of operator and console. `make image` builds the wheel in dist/ first.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
COPY requirements-image.lock /build/
RUN python3 -m venv /opt/keep-operator \
    && /opt/keep-operator/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        --only-binary=:all: -r /build/requirements-image.lock
COPY dist/*.whl /build/
RUN /opt/keep-operator/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /build/*.whl \
    && /opt/keep-operator/bin/python -m compileall -q /opt/keep-operator/lib \
    && rm -rf /opt/keep-operator/bin/pip* /opt/keep-operator/lib/python*/site-packages/pip /opt/keep-operator/lib/python*/site-packages/pip-*

FROM ${BASE}
LABEL org.opencontainers.image.title="keep-operator" \
      org.opencontainers.image.description="Runs the configuration of Keep the Kubernetes way" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/keep-operator /opt/keep-operator
ENV PATH=/opt/keep-operator/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
# Health pages and metrics; the read API of `console`.
EXPOSE 8080 8081
ENTRYPOINT ["keep-operator"]
CMD ["operate"]
