/*
 * timeline_file.h - all files of one timeline as one object: control block, term history, log.
 *
 *   DIR/timelines/<id>/control      control_file.h
 *   DIR/timelines/<id>/history      history_file.h
 *   DIR/timelines/<id>/witness      witness_file.h; made by its first write
 *   DIR/timelines/<id>/log/         segment_file.h, log_file.h, recover_file.h
 *
 * A new timeline is made under the name <id>.new and renamed when it is whole.
 *
 * Invariants
 *   T0 the control block says where the log begins before files below that go. T1 the control block
 * never seals (sealed_lsn) more than is durable in the log; before a
 * truncation the seal is lowered, durably. T2 the history is on the disk before the block that
 * names it. T3 after an error nothing more is written: the owner ends its service.
 *
 * Threads: one user at a time: the opener, then the store thread. `commit_hint` may be set by the
 * loop thread at any time.
 */
#ifndef CORALLITE_SAFEKEEPER_TIMELINE_FILE_H
#define CORALLITE_SAFEKEEPER_TIMELINE_FILE_H

#include <stdatomic.h>

#include "safekeeper/acceptor.h"
#include "safekeeper/history_file.h"
#include "safekeeper/recover_file.h"
#include "safekeeper/witness_file.h"

/* What makes a timeline, before it has any record. */
struct sk_birth {
    struct sk_owner owner;
    lsn_t start_lsn;
    struct wal_digest start_digest;
    term_t term; /* that it is born with: writers' terms are above it (Timeline.born_term) */
};

struct sk_files {
    char dir[SK_PATH_MAX];
    struct sk_control control; /* as last written */
    struct sk_control_file control_file;
    struct sk_history_file history_file;
    struct q_term *history;
    uint32_t n_history;
    struct sk_witness_file witness;
    struct sk_log log;
    struct sk_recovered found;
    _Atomic uint64_t commit_hint; /* newest commit LSN that the loop thread knows; <= flushed */
    bool unsettled;               /* term, vote or history changed since both slots were written */
};

/* DIR/timelines; made by the first start. */
CO_MUST_CHECK int sk_files_root(const char *data_dir, char path[SK_PATH_MAX]);
bool sk_files_exist(const char *data_dir, const struct co_id *timeline);
/* Removes all files of a timeline that is not open; 0 also when there are none. A crash within
 * leaves some: called again at the next start. */
CO_MUST_CHECK int sk_files_remove(const char *data_dir, const struct co_id *timeline);
/* Removes what interrupted creations left (<id>.new). Other names: see sk_files_list. */
CO_MUST_CHECK int sk_files_sweep(const char *data_dir);
/* Calls fn for each timeline directory. */
CO_MUST_CHECK int sk_files_list(const char *data_dir,
                                int (*fn)(void *arg, const struct co_id *timeline), void *arg);

/* Makes an empty timeline, durably. A directory that exists already is accepted only when it never
 * voted and holds no record; else CO_ERR_HALTED with a sentence. */
CO_MUST_CHECK int sk_files_create(const char *data_dir, const struct sk_birth *birth);

/* Opens: control block, history, scan of the log; rewrites the unsealed tail and seals it.
 * CO_ERR_CORRUPT, CO_ERR_VERSION, CO_ERR_IO, CO_ERR_HALTED (missing on disk), with a sentence. */
CO_MUST_CHECK int sk_files_open(const char *data_dir, const struct sk_birth *birth,
                                struct sk_files **out);
void sk_files_close(struct sk_files *f);

/* PERSIST. `seal_max`: 0, or the seal may not be above it (a truncation follows). */
CO_MUST_CHECK int sk_files_persist(struct sk_files *f, const struct sk_durable *durable,
                                   bool history_changed, lsn_t seal_max);
CO_MUST_CHECK int sk_files_truncate(struct sk_files *f, lsn_t lsn);
/* REBASE: the log begins at durable->base. Behind the log's end: it is empty then. */
CO_MUST_CHECK int sk_files_rebase(struct sk_files *f, const struct sk_durable *durable);
/* What is known of other safekeepers. */
CO_MUST_CHECK int sk_files_witness(struct sk_files *f, const struct q_known_list *known);
CO_MUST_CHECK int sk_files_halt(struct sk_files *f, const char *reason);

/* What is left to do when no work is at hand, one step a call: seal, write both slots, prepare the
 * log. *more: another step is left. */
CO_MUST_CHECK int sk_files_idle(struct sk_files *f, bool *more);
/* True when sk_files_idle has something to do. */
bool sk_files_wants_idle(const struct sk_files *f);
/* Under load there is no idle time: true when the seal is a segment behind. */
bool sk_files_seal_lags(const struct sk_files *f);
CO_MUST_CHECK int sk_files_seal(struct sk_files *f);
/* True when hardly any zeros are left ahead of the log. */
bool sk_files_wants_ahead(const struct sk_files *f);
/* One step of preparation when that is so. */
CO_MUST_CHECK int sk_files_keep_ahead(struct sk_files *f);
/* The last write of a clean stop. */
CO_MUST_CHECK int sk_files_settle(struct sk_files *f);

#endif
