/* check_pages_sock.c - every page of a branch at one LSN, through the protocol that a compute
 * uses: number, LSN and CRC of each must be right. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/check_sock.h"
#include "cli/sqlite_file.h"
#include "common/crc32c.h"

#define READ_TIMEOUT_MS 30000u
#define AT_ONCE_BYTES   (4 * CO_MIB)

struct asked {
    uint32_t pgno[CO_GETPAGES_MAX];
    uint32_t n;
};

static int nonsense(const struct client *c, const char *what)
{
    return co_fail(CO_ERR_PROTOCOL, "%s sent %s", c->sock.address, what);
}

static int check_shape(const struct client *c, const struct check_branch *b, const struct asked *a,
                       const Corallite__Pages *m, size_t bytes)
{
    size_t good = 0;
    if (m->lsn != b->lsn || m->n_pages != a->n)
        return nonsense(c, "other pages than were asked for");
    for (size_t i = 0; i < m->n_pages; i++)
        good += m->pages[i]->status == CO_OK;
    if (good && m->page_size != b->page_size)
        return nonsense(c, "pages of another size than the database has");
    return bytes == good * b->page_size ? 0
                                        : nonsense(c, "fewer or more bytes than its pages have");
}

/* One page; true when it is to be asked for again. */
static bool take_page(struct check_branch *b, uint32_t pgno, const Corallite__Pages__Page *p,
                      const uint8_t *bytes)
{
    char lsn[LSN_TEXT];
    if (p->status == CO_ERR_AGAIN)
        return true;
    if (p->pgno != pgno)
        check_problem(b, "page %u: the pageserver answered with page %u", (unsigned)pgno,
                      (unsigned)p->pgno);
    else if (p->status == CO_ERR_CORRUPT)
        check_problem(b, "page %u is damaged in the pageserver's store; its log says how",
                      (unsigned)pgno);
    else if (p->status == CO_ERR_NOT_FOUND)
        check_problem(b, "page %u is missing, though the database has %u pages", (unsigned)pgno,
                      (unsigned)b->pages);
    else if (p->status != CO_OK)
        check_problem(b, "page %u cannot be read: %s", (unsigned)pgno, co_error_text(p->status));
    else if (p->lsn > b->lsn || p->lsn == 0)
        check_problem(b, "page %u came with version %s, which is no version of this moment",
                      (unsigned)pgno, lsn_format(p->lsn, lsn));
    else if (co_crc32c(0, bytes, b->page_size) != p->crc)
        check_problem(b, "page %u came with bytes that are not those of its checksum",
                      (unsigned)pgno);
    else {
        b->pages_read++;
        b->crc[pgno - 1] = p->crc;
    }
    return false;
}

/* Asks for what is in `a`, and leaves there what did not fit. */
static int read_some(struct client *c, struct check_branch *b, struct asked *a)
{
    Corallite__GetPages q = CORALLITE__GET_PAGES__INIT;
    Corallite__Pages *m = NULL;
    struct co_buf payload = {0};
    uint32_t again = 0;
    q.has_timeline = q.has_lsn = q.has_deadline_ms = 1;
    q.timeline = (ProtobufCBinaryData){.len = sizeof b->timeline.b, .data = b->timeline.b};
    q.lsn = b->lsn;
    q.deadline_ms = READ_TIMEOUT_MS - 2000;
    q.n_pages = a->n;
    q.pages = a->pgno;
    int rc = client_call_payload(c, FRAME_GET_PAGES, &q.base, FRAME_PAGES,
                                 &corallite__pages__descriptor, READ_TIMEOUT_MS, &m, &payload);
    if (rc)
        return rc;
    rc = check_shape(c, b, a, m, payload.len);
    const uint8_t *bytes = payload.data;
    for (uint32_t i = 0; i < a->n && !rc; i++) {
        if (take_page(b, a->pgno[i], m->pages[i], bytes))
            a->pgno[again++] = a->pgno[i];
        bytes += m->pages[i]->status == CO_OK ? b->page_size : 0;
    }
    if (!rc && again == a->n)
        rc = nonsense(c, "none of the pages that were asked for");
    a->n = again;
    corallite__pages__free_unpacked(m, NULL);
    co_buf_free(&payload);
    return rc;
}

int check_pages(struct client *c, struct check_branch *b, struct progress *bar)
{
    struct asked a = {.n = 0};
    uint32_t next = 1, most = (uint32_t)(AT_ONCE_BYTES / b->page_size);
    uint64_t total = (uint64_t)b->pages * b->page_size;
    free(b->crc);
    b->crc = calloc(b->pages + 1u, sizeof *b->crc);
    if (!b->crc)
        return co_fail(CO_ERR_NOMEM, "there is no memory for %u checksums", (unsigned)b->pages);
    if (most > CO_GETPAGES_MAX)
        most = CO_GETPAGES_MAX;
    while (next <= b->pages || a.n) {
        while (a.n < most && next <= b->pages)
            a.pgno[a.n++] = next++;
        if (sqlite_interrupted())
            return co_fail(CO_ERR_CANCELED, "check was interrupted");
        int rc = read_some(c, b, &a);
        if (rc)
            return rc;
        progress_show(bar, (uint64_t)(next - 1 - a.n) * b->page_size, total);
    }
    return 0;
}
