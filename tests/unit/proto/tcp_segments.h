/* tcp_segments.h - a file of its own because <linux/tcp.h> and <uv.h> do not go together. */
#ifndef CORALLITE_TESTS_TCP_SEGMENTS_H
#define CORALLITE_TESTS_TCP_SEGMENTS_H

/* Segments with data that this socket has received. */
unsigned tcp_segments_in(int fd);

#endif
