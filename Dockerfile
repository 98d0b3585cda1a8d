# An image with all of Corallite: the daemons, the command and the extension, on Debian 12.
#   docker build -t corallite .
#   docker run --rm -it corallite corallite help
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make
WORKDIR /src
COPY tools/deps tools/deps
RUN tools/deps build
COPY . .
RUN make -j"$(nproc)" B=/build DEPS=no && make install B=/build DEPS=no DESTDIR=/out PREFIX=/usr

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
        sqlite3 libuv1 liblmdb0 libzstd1 libprotobuf-c1 libssl3 libmicrohttpd12 libjansson4 libcurl4 ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/corallite --create-home corallite
COPY --from=build /out /
COPY tools/health /usr/bin/corallite-health
USER corallite
VOLUME /var/lib/corallite
CMD ["corallite", "help"]
