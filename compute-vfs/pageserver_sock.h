/*
 * pageserver_sock.h - cv_pages_ops (pages.h) over the network: a pool of connections to one
 * pageserver, or to several of one cluster, of which one is asked after the other (choice.h). The
 * calling thread takes a connection, sends, waits by itself and puts it back, so that as many
 * questions are under way as there are threads that ask.
 *
 * Every request may be repeated without harm, so a connection that breaks, a server that restarts
 * and a log that has not been taken in yet are only latency, within the caller's timeout. So is a
 * connection that falls silent: after a while the question is asked on a new one. A server that was
 * never reached is given up after CV_FIRST_CONTACT_US.
 *
 * Nothing is believed: timeline, LSN, page numbers, their order, the sizes and the CRC-32C of each
 * page are checked against what was asked.
 *
 * After fork() the child can only close() it.
 */
#ifndef CORALLITE_COMPUTE_VFS_PAGESERVER_SOCK_H
#define CORALLITE_COMPUTE_VFS_PAGESERVER_SOCK_H

#include "compute-vfs/pages.h"

#define CV_FIRST_CONTACT_US 2500000u
#define CV_POOL_MAX         32u /* idle connections kept */
#define CV_PAGESERVER_PORT  6400u

/* server: "HOST:PORT" or "HOST", or up to CV_SERVERS_MAX of them with commas. Does not connect.
 * CO_ERR_INVAL for an address that is none. */
CO_MUST_CHECK int cv_pageserver_open(const char *server, struct cv_pages **out);

#endif
