/*
 * hello.h - the rules of the first exchange on a connection, and of Error: what both kinds of peers
 * check. Pure.
 */
#ifndef CORALLITE_PROTO_HELLO_H
#define CORALLITE_PROTO_HELLO_H

#include "common/error.h"
#include "proto/corallite.pb-c.h"

/* Server: CO_ERR_VERSION unless the protocol of this build lies in the caller's range (an absent
 * bound is this build's). */
CO_MUST_CHECK int hello_check_range(const Corallite__Hello *hello);

/* Client: is this the one that was asked for? CO_ERR_VERSION, CO_ERR_CLUSTER, CO_ERR_NODE (node or
 * disk), CO_ERR_PROTOCOL, each with a sentence that names `address`. What the caller did not ask
 * for is not compared. */
CO_MUST_CHECK int hello_check_answer(const Corallite__Hello *hello, const Corallite__HelloOk *ok,
                                     const char *address);

/* Who is wanted, in words, from what the caller's Hello says: "safekeeper 2" when it expects a
 * node, else "a safekeeper" for a pageserver and "the pageserver" for everybody else. */
const char *hello_wanted(const Corallite__Hello *hello, char text[32]);

/* The code of an Error and its sentence as this thread's: CO_ERR_PROTOCOL for a code that does not
 * exist; control characters become spaces. Never 0. */
CO_MUST_CHECK int error_take(const Corallite__Error *error, const char *address);

#endif
