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

# A real OpenSearch; the context has its libraries from Maven Central. HTTP is on the first free port behind the one that is named.
FROM ${BASE_IMAGE} AS opensearch
RUN apt-get update && apt-get install -y --no-install-recommends openjdk-17-jre-headless && rm -rf /var/lib/apt/lists/*
COPY opensearch /opt/opensearch
WORKDIR /usr/share/opensearch/data
RUN mkdir -p node_1/config \
 && printf '%s\n' 'network.host: 0.0.0.0' 'discovery.type: single-node' 'cluster.routing.allocation.disk.threshold_enabled: false' \
        > node_1/config/opensearch.yml
CMD ["java", "-Xms1g", "-Xmx1g", "-XX:+UseSerialGC", "-cp", "/opt/opensearch/*", "org.codelibs.opensearch.runner.OpenSearchRunner", \
     "-basePath", "/usr/share/opensearch/data", "-numOfNode", "1", "-clusterName", "containers", "-baseHttpPort", "9199"]
