/*
 * answer_uv.h - GET_PAGES and CHANGES_SINCE: what is asked for, and the answer, on any loop.
 *
 * Threads: a reader belongs to one loop.
 */
#ifndef CORALLITE_PAGESERVER_ANSWER_UV_H
#define CORALLITE_PAGESERVER_ANSWER_UV_H

#include "pageserver/view.h"
#include "proto/limits.h"
#include "proto/peer_uv.h"

struct ps_request {
    uint64_t request;
    struct co_id timeline;
    bool changes; /* CHANGES_SINCE, else GET_PAGES */
    lsn_t lsn;    /* GET_PAGES: snapshot; CHANGES_SINCE: upto, 0: what there is */
    lsn_t since;  /* CHANGES_SINCE */
    lsn_t need;   /* how far the timeline must be readable for it; 0: its begin */
    uint32_t deadline_ms;
    uint32_t n;     /* GET_PAGES */
    uint32_t chain; /* so many more behind the last of them; n + chain <= CO_GETPAGES_MAX */
    pgno_t pgnos[CO_GETPAGES_MAX];
};

struct ps_page_reply;

/* What a loop reads with. */
struct ps_reader {
    struct ps_txn *txn;
    struct ps_page_reply *reply; /* NULL before the first answer */
};
void ps_reader_free(struct ps_reader *reader);

/* Reads a FRAME_GET_PAGES or FRAME_CHANGES_SINCE. Errors have sentences. CO_ERR_INVAL: it asks for
 * what there cannot be; the timeline is filled in. */
CO_MUST_CHECK int ps_request_take(unsigned type, uint64_t request, struct co_span message,
                                  struct ps_request *out);

/* Sends the answer, or returns an error with a sentence and has sent nothing. The reader's
 * transaction is open, the timeline can be read as far as is needed, the moment is kept. lists_all:
 * every commit after `since` is still listed. */
CO_MUST_CHECK int ps_answer(struct ps_reader *reader, struct peer *peer,
                            const struct ps_readable *of, const struct ps_request *request,
                            bool lists_all);

#endif
