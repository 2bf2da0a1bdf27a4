# The image, built from source: one static binary and an empty /tmp. CA roots are compiled in.
#
#   docker buildx build --platform linux/amd64,linux/arm64 -t touchmark .
#   docker buildx build --target debug -t touchmark:debug .
#
# No USER: GitHub requires root, and `docker run --user 65532` works. To build from a binary that exists already, without
# pulling anything, see Dockerfile.prebuilt.

FROM rust:1.95-alpine3.22 AS build
# The C compiler is for AWS-LC.
RUN apk add --no-cache musl-dev gcc make cmake
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY examples examples
COPY tests tests
RUN cargo build --release --locked --bin touchmark \
    && mkdir -p /rootfs/tmp && chmod 1777 /rootfs/tmp \
    && cp target/release/touchmark /rootfs/touchmark

FROM busybox:1.37-musl AS busybox

FROM scratch AS debug
COPY --from=busybox /bin /bin
COPY --from=build /rootfs /
ENV PATH=/:/bin
ENTRYPOINT ["/touchmark"]

FROM scratch
COPY --from=build /rootfs /
ENV PATH=/:/bin
ENTRYPOINT ["/touchmark"]
