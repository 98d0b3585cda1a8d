/* history.c - questions about a term history (struct q_history of qmsg.h). Both cores ask them for
 * each record, so they search by halving. Pure. */
#include "proto/qmsg.h"

/* Number of entries with start <= lsn: they are the first ones, as starts never decrease. */
static uint32_t starting_by(const struct q_history *h, lsn_t lsn)
{
    uint32_t low = 0, high = h->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (h->e[middle].start <= lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

term_t q_term_at(const struct q_history *h, lsn_t lsn)
{
    uint32_t n = starting_by(h, lsn);
    return n ? h->e[n - 1].term : 0;
}

term_t q_last_log_term(const struct q_history *h, lsn_t flush)
{
    return q_term_at(h, flush);
}

bool q_history_valid(const struct q_history *h)
{
    for (uint32_t i = 1; i < h->n; i++)
        if (h->e[i].term <= h->e[i - 1].term || h->e[i].start < h->e[i - 1].start)
            return false;
    return true;
}
