/*
 * fake_safekeeper.h - an acceptor in memory behind a fake_server, plain and obedient, with switches
 * for what a test needs to happen.
 */
#ifndef CORALLITE_TESTS_FAKE_SAFEKEEPER_H
#define CORALLITE_TESTS_FAKE_SAFEKEEPER_H

#include "compute-vfs/pages.h"
#include "fake_server.h"
#include "proto/qmsg.h"

struct fake_sk {
    struct fake_server server;
    struct co_id timeline;
    struct wal_config config;

    /* everything down to the switches under server.lock */
    term_t term;
    struct co_id nonce;
    struct q_term history[256];
    uint32_t n_history;
    struct co_buf log;    /* from LSN_FIRST */
    struct co_buf staged; /* of the record behind it */
    lsn_t commit_lsn;
    struct co_id lease_nonce;
    uint64_t lease_until_us;
    struct fake_conn *holder, *waiting[8];
    struct qmsg_scratch scratch;

    /* Switches and counts, which a test sets and reads without the lock. */
    atomic_bool no_acks;    /* takes records, says nothing about them */
    atomic_bool no_votes;   /* says nothing to VOTE */
    atomic_bool no_appends; /* drops APPEND unseen */
    atomic_int error;       /* answers everything with this */
    atomic_bool sealed;     /* answers votes and records with READONLY */
    _Atomic uint64_t lease_us;
    _Atomic uint64_t votes, appends, read_pos, releases;
    _Atomic uint64_t bytes_in; /* frames of the log, headers included */
};

/* Three of them and the timeline that names them. */
struct fake_cluster {
    struct fake_sk sk[3];
    struct cv_timeline timeline;
};

void fake_cluster_start(struct fake_cluster *c);
void fake_cluster_stop(struct fake_cluster *c);
/* Process gone: connections end, leases of connections on this host with them. Disk stays. */
void fake_sk_kill(struct fake_sk *sk);
void fake_sk_restart(struct fake_sk *sk);
lsn_t fake_sk_flush(struct fake_sk *sk);
/* Somebody else was elected by a majority at this moment: higher term, log cut at `keep`. */
void fake_cluster_usurp(struct fake_cluster *c, lsn_t keep);

#endif
