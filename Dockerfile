# mullama as a command: `docker build -t mullama .`, then `docker run --rm -it mullama run demo`.
#
# The first stage has compilers and Rust, and makes a wheel for any x86-64-v3 processor (other architectures: their baseline).
# The second has Python, the wheel and its dependencies.

FROM rust:1.95-slim-bookworm AS build
# Debian removes a package's version from its mirrors when the next one comes, so none is named here.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake g++ libclang-dev make python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ENV MULLAMA_PORTABLE=1
RUN python3 -m venv /venv \
    && /venv/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.13-slim-bookworm
# The wheel is mounted and not copied, so that no layer keeps it.
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    pip install --no-cache-dir /dist/*.whl
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
# That user has no home directory; the history of a conversation lasts as long as the container.
ENV XDG_STATE_HOME=/tmp
WORKDIR /models
ENTRYPOINT ["mullama"]
CMD ["--help"]
