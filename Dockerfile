# One image for every process of Sluice; docker-compose.yml says which process a container runs, as whom and with what.
#
# It has no HEALTHCHECK: what is healthy differs from process to process, and stands in docker-compose.yml.

ARG PYTHON=python:3.13-slim-trixie

FROM ${PYTHON} AS packages
RUN python -m venv --without-pip /venv
COPY requirements.txt requirements-otel.txt ./
RUN pip --python /venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r requirements.txt
# Anything in it brings what traces want.
ARG OTEL=
RUN [ -z "$OTEL" ] || pip --python /venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: \
    -r requirements-otel.txt

FROM ${PYTHON}
# Files belong to root: a process that was taken over can change neither its code nor its packages.
RUN groupadd --gid 10001 sluice \
    && useradd --uid 10001 --gid sluice --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sluice \
    && install -d -o sluice -g sluice -m 0750 /storage
COPY --from=packages /venv /venv
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SLUICE_STORAGE_DIR=/storage
WORKDIR /app
# What there is to copy is listed in .dockerignore.
COPY . .
# Compiled here, since nothing can be written where it runs; readable whatever the umask was that it was checked out with.
RUN chmod -R a+rX . && python -m compileall -q .
USER 10001:10001
EXPOSE 5000
CMD ["gunicorn", "--config", "file:api/gunicorn_config.py", "--bind", "0.0.0.0:5000", "--worker-tmp-dir", "/dev/shm", "api:create_app()"]
