# The stages deps and build are the same, word for word, in Dockerfile, proxy/Dockerfile,
# cloud-proxy/Dockerfile and prompt-router/Dockerfile: whichever is built first fills the layer cache
# for the others, and nothing is compiled twice. A test in test/compose compares them.

ARG GO_IMAGE=golang:1.26-bookworm
ARG RUNTIME_IMAGE=busybox:1.37-musl

# Compiles on the machine that builds, for the machine that will run it. BuildKit sets BUILDPLATFORM; the
# classic builder does not, and takes "linux" for its own platform.
FROM --platform=${BUILDPLATFORM:-linux} ${GO_IMAGE} AS deps
WORKDIR /app/src
ENV GOPATH=/go GOCACHE=/go/cache GOTOOLCHAIN=local CGO_ENABLED=0
# Empty means Go's default. The values stay in this stage, which no image is made from.
# One line for all: with the classic builder each costs seconds.
ARG GOPROXY GOFLAGS GONOSUMDB GONOSUMCHECK GOPRIVATE GOSUMDB GOINSECURE
COPY go.mod go.sum ./
# /files is what every image takes besides its program: a final stage runs nothing, so that it needs no emulation.
RUN go mod download && mkdir -p /files/data && cp /etc/ssl/certs/ca-certificates.crt "$(go env GOROOT)/lib/time/zoneinfo.zip" /files/
# The modules that take longest to compile, before the source is there: a changed line of ours does not compile them again.
ARG TARGETOS TARGETARCH
RUN GOPROXY=off GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath -buildvcs=false \
    cel.dev/cel-go/cel \
    github.com/goccy/go-yaml \
    github.com/jackc/pgx/v5 \
    github.com/klauspost/compress/zstd \
    github.com/prometheus/client_golang/prometheus/promhttp \
    github.com/redis/go-redis/v9 \
    github.com/wneessen/go-mail \
    modernc.org/sqlite

FROM deps AS build
COPY cmd ./cmd
COPY internal ./internal
COPY proxy ./proxy
COPY cloud-proxy ./cloud-proxy
COPY prompt-router ./prompt-router
COPY docker-entrypoint.sh /files/
ARG TARGETOS TARGETARCH VERSION=development REVISION=unknown
# Whatever the umask of the checkout was, the service's user must be able to run the entry point.
RUN chmod 0755 /files/docker-entrypoint.sh && GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath -buildvcs=false -o /out/ \
    -ldflags "-s -w -X github.com/quickthorn/quickthorn/internal/command.version=${VERSION} -X github.com/quickthorn/quickthorn/internal/command.revision=${REVISION}" \
    ./cmd/quickthorn ./proxy ./cloud-proxy ./prompt-router

# runtime: every service but the three with an image of their own; the subcommand chooses which.
FROM ${RUNTIME_IMAGE} AS runtime
ARG VERSION=development REVISION=unknown
LABEL org.opencontainers.image.title="quickthorn" \
      org.opencontainers.image.description="Self-hosted defence against AI scrapers: all services in one program" \
      org.opencontainers.image.vendor="quickthorn" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=deps /files/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=deps /files/zoneinfo.zip /usr/local/share/zoneinfo.zip
COPY --from=deps --chown=10001:10001 /files/data /data
COPY --from=build /files/docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
COPY --from=build /out/quickthorn /usr/local/bin/quickthorn
ENV ZONEINFO=/usr/local/share/zoneinfo.zip QUICKTHORN_DATA_DIRECTORY=/data QUICKTHORN_PRIVATE_LISTEN=:8081 QUICKTHORN_LOG_FORMAT=json
# quickthorn.yaml and policy files are found here when they are mounted.
WORKDIR /etc/quickthorn
USER 10001:10001
EXPOSE 8080 8000 8001 8003 5002 8008 8009 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=90s --retries=3 CMD ["/usr/local/bin/quickthorn", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]
CMD ["run"]

# dev: the compiler of docker-compose.dev.yaml, which mounts the source over /app/src; the services of that file run in this image as
# well. It begins from GO_IMAGE and not from build, whose history has the settings of the module proxy.
FROM ${GO_IMAGE} AS dev
WORKDIR /app/src
ENV GOPATH=/go GOCACHE=/go/cache GOTOOLCHAIN=local CGO_ENABLED=0 PATH=/app/bin:/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin \
    QUICKTHORN_DATA_DIRECTORY=/data QUICKTHORN_PRIVATE_LISTEN=:8081 QUICKTHORN_LOG_FORMAT=json
COPY --from=build --chown=10001:10001 /go/pkg/mod /go/pkg/mod
COPY --from=build --chown=10001:10001 /go/cache /go/cache
COPY --from=build --chown=10001:10001 /files/data /data
COPY --from=build --chown=10001:10001 /files/data /app/bin
COPY . .
USER 10001:10001
CMD ["/bin/sh", "/app/src/deploy/dev/build.sh"]

# test: the same, for the unit tests.
FROM dev AS test
ENV HOME=/tmp
CMD ["go", "test", "./..."]

# What a build without --target makes.
FROM runtime
