# The engines of the container test where their own images cannot be pulled. `--target redis`, `mongo` or `opensearch`.
ARG BASE_IMAGE=python:3.12.11-slim-bookworm

FROM ${BASE_IMAGE} AS redis
# hadolint global ignore=DL3008,DL3013
RUN apt-get update && apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
RUN mkdir /data
WORKDIR /data
CMD ["redis-server"]

# FerretDB v1 on SQLite speaks MongoDB's protocol; the context has the program.
FROM ${BASE_IMAGE} AS mongo
COPY ferretdb /usr/local/bin/ferretdb
RUN mkdir -p /data/db
CMD ["ferretdb", "--listen-addr=:27017", "--handler=sqlite", "--sqlite-url=file:/data/db/?_pragma=synchronous(off)", "--state-dir=/data/db", \
     "--debug-addr=-", "--telemetry=disable", "--log-level=error"]

# osmem-server speaks OpenSearch's protocol and keeps everything in memory.
FROM ${BASE_IMAGE} AS opensearch
RUN pip install --no-cache-dir osmem-server
RUN printf '%s\n' 'import os' 'from osmem_server import resolve_binary' 'program = str(resolve_binary())' \
        'os.execv(program, [program, "--no-ja", "--addr", "0.0.0.0:9200"])' > /start.py
CMD ["python", "/start.py"]
