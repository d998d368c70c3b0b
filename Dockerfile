# The server in an image without a shell: one program, its libraries, the embedded model inside.
#
#   docker build -t unmask .
#   docker run --read-only -p 8080:8080 unmask
#   docker run --read-only -p 8080:8080 -v /srv/models/diffugpt-s:/model:ro -e UNMASK_MODEL=/model unmask
#
# Both base images are arguments, so that a site can pin them by digest or bring its own:
#   --build-arg BUILDER=registry.example/rust@sha256:… --build-arg RUNTIME=registry.example/cc@sha256:…
# BUILDER has Rust and a C compiler; RUNTIME has the C library of the same or a later release, and needs no more. A
# static program would do without it, but glibc's cannot resolve names then (downloads from a hub), and musl's
# allocator is slow under threads. FEATURES=embedded,smollm2,hub,cuda makes a program for GPUs: see deploy/cuda/Dockerfile.
ARG BUILDER=docker.io/library/rust:1.95-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:latest

FROM ${BUILDER} AS chef
WORKDIR /build
ENV CARGO_TERM_COLOR=never
RUN cargo install cargo-chef --version 0.1.78 --locked

# What the dependencies are, and nothing else: this changes only when they do.
FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json --bin unmask

# The dependencies are a layer of their own, which a change of the sources leaves as it is.
FROM chef AS dependencies
ARG FEATURES=embedded,smollm2,hub
ENV CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols
COPY --from=plan /build/recipe.json .
RUN cargo chef cook --release --locked --package unmask-api --bin unmask --no-default-features --features ${FEATURES}

FROM dependencies AS build
ARG FEATURES=embedded,smollm2,hub
COPY . .
RUN cargo build --release --locked --package unmask-api --bin unmask --no-default-features --features ${FEATURES} \
    && mkdir -p /image/model /image/cache \
    && cp target/release/unmask /image/unmask

FROM ${RUNTIME}
LABEL org.opencontainers.image.title="unmask" \
      org.opencontainers.image.description="Inference server for masked diffusion language models" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT"
COPY --from=build --chown=0:0 /image/unmask /usr/local/bin/unmask
COPY --from=build --chown=0:0 /image/model /model
# Where downloads from a hub go; mount a volume here if there are any.
COPY --from=build --chown=65534:65534 /image/cache /cache
# Settings are environment variables, so that the health check below knows the address too. Balancers have five
# seconds to notice that /ready says no; after that requests have --drain-timeout (25 s), so grant 45 s to stop.
ENV UNMASK_LISTEN=0.0.0.0:8080 UNMASK_LOG_FORMAT=json UNMASK_DRAIN_DELAY=5 HF_HOME=/cache
USER 65534:65534
VOLUME /model
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 CMD ["/usr/local/bin/unmask", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/unmask"]
