# Two images from one file, neither of which runs as root: `cpu`, the default, with OpenVINO and without torch, and
# `cuda` with torch for NVIDIA GPUs. All stages share one base, so that the virtual environment built in one of
# them runs in another.
#
#   docker build -t cxr-serve:0.1.0 .
#   docker build -t cxr-serve:0.1.0-cuda --target cuda .
#   docker run --rm -e CXR_INSECURE=true -p 127.0.0.1:50051:50051 cxr-serve:0.1.0
#
# The base by its digest, so that two builds are the same:
#   docker buildx imagetools inspect python:3.11-slim --format '{{.Manifest.Digest}}'
#   docker build --build-arg BASE_IMAGE=python:3.11-slim@sha256:... .
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY locks/sbom.txt /src/
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --quiet --no-deps --require-hashes -r /src/sbom.txt \
    && python3 -m venv /opt/cxr
COPY scripts/image /src/image

FROM tools AS cpu-packages
COPY locks/serve.txt /src/
RUN /opt/cxr/bin/pip install --quiet --no-deps --require-hashes -r /src/serve.txt
COPY LICENSE /src/
COPY client /src/client
COPY server /src/server
RUN /src/image/finish.sh

FROM tools AS cuda-packages
COPY locks/cuda.txt /src/
RUN /opt/cxr/bin/pip install --quiet --no-deps --require-hashes -r /src/cuda.txt
COPY LICENSE /src/
COPY client /src/client
COPY server /src/server
RUN /src/image/finish.sh

FROM ${BASE_IMAGE} AS runtime
LABEL org.opencontainers.image.title="cxr-serve" \
      org.opencontainers.image.description="Chest X-ray inference over gRPC. Research use only." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# Bundles are mounted read-only. The cache of compiled models is the one folder written to: a
# volume, so that the rest of the file system can be read-only.
RUN groupadd --gid 10001 cxr \
    && useradd --uid 10001 --gid cxr --no-create-home --home-dir /var/cache/cxr --shell /usr/sbin/nologin cxr \
    && install -d -o cxr -g cxr /var/cache/cxr /var/lib/cxr/bundles
COPY LICENSE /usr/share/doc/cxr-serve/LICENSE
# All addresses inside the container; plaintext there must be allowed by whoever runs it
# (CXR_INSECURE=true), or TLS be set up (CXR_TLS_CERT, CXR_TLS_KEY). Health has a port of its own
# inside the container: there it is asked without certificate and token, whatever CXR_LISTEN is.
ENV PATH=/opt/cxr/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CXR_LISTEN=0.0.0.0:50051 \
    CXR_HEALTH_LISTEN=127.0.0.1:50052 \
    CXR_BUNDLE_HOME=/var/lib/cxr/bundles \
    CXR_CACHE_DIR=/var/cache/cxr
USER 10001:10001
WORKDIR /var/cache/cxr
VOLUME /var/cache/cxr
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["cxr-server", "health"]
ENTRYPOINT ["cxr-server"]
CMD ["serve"]

FROM runtime AS cuda
# What NVIDIA's container runtime mounts: the driver's libraries for computing, and nvidia-smi.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=cuda-packages /opt/cxr /opt/cxr

FROM runtime AS cpu
COPY --from=cpu-packages /opt/cxr /opt/cxr
