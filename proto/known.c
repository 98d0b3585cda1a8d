/* known.c - see known.h. */
#include "proto/known.h"

#include <stddef.h>

bool q_known_merge(struct q_known *to, const struct q_known *from)
{
    bool news = false;
    if (from->starts > to->starts) {
        to->starts = from->starts;
        to->start_id = from->start_id;
        news = true;
    }
    /* What was acknowledged in an older term may have been cut since. */
    if (from->term > to->term) {
        to->term = from->term;
        to->flush_lsn = from->flush_lsn;
        news = true;
    } else if (from->term == to->term && from->flush_lsn > to->flush_lsn) {
        to->flush_lsn = from->flush_lsn;
        news = true;
    }
    if (from->commit_lsn > to->commit_lsn) {
        to->commit_lsn = from->commit_lsn;
        news = true;
    }
    if (from->log_term > to->log_term) {
        to->log_term = from->log_term;
        news = true;
    }
    return news;
}

bool q_known_denies(const struct q_known *e, const struct q_stand *s)
{
    bool other_start = s->starts && (e->starts > s->starts ||
                                     (e->starts == s->starts && e->start_id != s->start_id));
    return other_start || e->term > s->term || (e->term == s->term && e->flush_lsn > s->reach) ||
           e->commit_lsn > s->reach || e->log_term > s->log_term;
}

const struct q_known *q_known_of(const struct q_known *e, uint32_t n, uint64_t node)
{
    for (uint32_t i = 0; i < n; i++) {
        if (e[i].node == node) {
            return &e[i];
        }
    }
    return NULL;
}

lsn_t q_known_commit(const struct q_known *e, uint32_t n)
{
    lsn_t most = 0;
    for (uint32_t i = 0; i < n; i++) {
        most = e[i].commit_lsn > most ? e[i].commit_lsn : most;
    }
    return most;
}

term_t q_known_log_term(const struct q_known *e, uint32_t n)
{
    term_t most = 0;
    for (uint32_t i = 0; i < n; i++) {
        most = e[i].log_term > most ? e[i].log_term : most;
    }
    return most;
}
