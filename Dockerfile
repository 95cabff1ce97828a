# syntax=docker/dockerfile:1
# billing-sync as a container: one binary on distroless Debian, no shell, not root.
#
#   make image
#   docker run -e DATABASE_URL=… -e STRIPE_WEBHOOK_SECRET=whsec_… -p 8080:8080 billing-sync serve --migrate

FROM rust:1.95-bookworm AS build
WORKDIR /src

# The dependencies have their own layer, which stays valid until the manifest or the lock file changes.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --locked \
    && rm -rf src target/release/.fingerprint/billing-sync-* target/release/deps/*billing_sync*

COPY src src
COPY migrations migrations
COPY .sqlx .sqlx
COPY build.rs build.rs
RUN cargo build --release --locked

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/billing-sync /usr/local/bin/billing-sync

# a container's loopback address is not reachable from outside; the ops port is for the orchestrator only, and the API
# listens only with the role api
ENV BILLING_SYNC_LISTEN=0.0.0.0:8080 \
    BILLING_SYNC_API_LISTEN=0.0.0.0:8081 \
    BILLING_SYNC_OPS_LISTEN=0.0.0.0:9464 \
    BILLING_SYNC_LOG_FORMAT=json
EXPOSE 8080 8081 9464
# distroless names this user nonroot; Kubernetes can verify only a numeric id
USER 65532

# the binary checks itself: the image has no shell and no curl
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/billing-sync", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/billing-sync"]
CMD ["serve"]
