# syntax=docker/dockerfile:1
# understudy's image: the program, what it is linked with, the roots of TLS, the time zones; no shell, and not root.
# Built from the repository: docker build -t understudy .    More: deploy/README.md.

FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates make tzdata \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
 && deploy/docker/rootfs target/release/understudy /image

FROM scratch
LABEL org.opencontainers.image.title="understudy" \
      org.opencontainers.image.description="A MySQL wire-protocol shadowing proxy: mirror, compare, cut over" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/root /
# /var/lib/understudy, the user's own, new here: a directory that is there already would keep its owner. Who is primary
# stands in the ledger: a container without a volume of its own still has one.
COPY --from=build --chown=65532:65532 /image/state /var/lib
VOLUME ["/var/lib/understudy"]
USER 65532:65532
WORKDIR /var/lib/understudy
EXPOSE 3306 8306
# SIGTERM drains: give it longer than listen.drain_timeout_s (docker stop --time 90).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/bin/understudy", "health"]
ENTRYPOINT ["/usr/bin/understudy"]
CMD ["serve", "--config", "/etc/understudy/understudy.toml"]
