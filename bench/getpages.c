/*
 * getpages.c - reads pages from a pageserver as fast as it answers, by the protocol itself.
 *
 *   getpages --server HOST:PORT --timeline ID --lsns FILE --pages N [--batch 1] [--threads 1]
 *            [--seconds 2] [--warm 0.3]
 *
 * Each thread has a connection and one request on its way, of --batch pages drawn from 1 .. N, at
 * an LSN drawn from FILE (16 hex digits a line). Each page of each answer must be there, be the one
 * that was asked for, and have the CRC-32C that is said of it. The sum is the number of pages.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/measure.h"
#include "common/clock_file.h"
#include "common/crc32c.h"
#include "common/id.h"
#include "proto/limits.h"
#include "proto/lsn.h"
#include "proto/peer_sock.h"

#define LSNS_MAX   65536u
#define TIMEOUT_US 20000000ull

struct client {
    struct psock s;
    uint64_t random;
    uint32_t pages[CO_GETPAGES_MAX];
    struct co_buf body;
};

static struct {
    char host[CO_HOST_MAX_BYTES + 1];
    uint16_t port;
    struct co_id timeline;
    uint32_t pages, batch;
    lsn_t lsn[LSNS_MAX];
    size_t n_lsns;
} options;

static void *client_open(void *context, int no)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    struct client *c = calloc(1, sizeof *c);
    (void)context;
    if (c == NULL)
        bm_die("no memory");
    hello.has_protocol_min = hello.has_protocol_max = hello.has_role = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.role = CORALLITE__ROLE__ROLE_TOOL;
    if (psock_connect(&c->s, options.host, options.port, &hello, co_now_us() + TIMEOUT_US, NULL))
        bm_die("%s", co_sentence());
    c->random = bm_now_ns() * 0x9e3779b97f4a7c15u + (uint64_t)no + 1;
    return c;
}

/* Every page that was asked for, as it was asked for and whole. */
static void check(const struct client *c, const struct frame_header *frame)
{
    struct co_span body = co_buf_span(&c->body);
    Corallite__Pages *p = corallite__pages__unpack(NULL, frame->message_bytes, body.data);
    if (p == NULL || p->n_pages != options.batch)
        bm_die("an answer of another form");
    const uint8_t *page = body.data + frame->message_bytes;
    size_t size = p->page_size;
    if (body.len - frame->message_bytes != size * options.batch)
        bm_die("%zu bytes of pages came", body.len - frame->message_bytes);
    for (uint32_t i = 0; i < options.batch; i++) {
        if (p->pages[i]->status != 0 || p->pages[i]->pgno != c->pages[i])
            bm_die("page %u: status %d", c->pages[i], p->pages[i]->status);
        if (co_crc32c(0, page + i * size, size) != p->pages[i]->crc)
            bm_die("page %u is not what its CRC says", c->pages[i]);
    }
    corallite__pages__free_unpacked(p, NULL);
}

static uint64_t client_once(void *client, uint64_t n)
{
    struct client *c = client;
    Corallite__GetPages q = CORALLITE__GET_PAGES__INIT;
    struct frame_header frame;
    (void)n;
    uint32_t from = (uint32_t)(bm_random(&c->random) % (options.pages - options.batch + 1));
    for (uint32_t i = 0; i < options.batch; i++)
        c->pages[i] = 1 + from + i;
    q.has_timeline = q.has_lsn = q.has_deadline_ms = 1;
    q.timeline =
        (ProtobufCBinaryData){.len = sizeof options.timeline.b, .data = options.timeline.b};
    q.lsn = options.lsn[bm_random(&c->random) % options.n_lsns];
    q.deadline_ms = 10000;
    q.n_pages = options.batch;
    q.pages = c->pages;
    c->body.len = 0;
    if (psock_call(&c->s, FRAME_GET_PAGES, &q.base, (struct co_span){0}, co_now_us() + TIMEOUT_US,
                   &frame, &c->body, NULL))
        bm_die("%s", co_sentence());
    check(c, &frame);
    co_buf_free(&c->body);
    return options.batch;
}

static void client_close(void *client)
{
    struct client *c = client;
    psock_close(&c->s);
    free(c);
}

static void read_lsns(const char *path)
{
    char line[64];
    FILE *f = fopen(path, "r");
    if (f == NULL)
        bm_die("%s cannot be opened", path);
    while (fgets(line, sizeof line, f) && options.n_lsns < LSNS_MAX)
        options.lsn[options.n_lsns++] = strtoull(line, NULL, 16);
    fclose(f);
    if (options.n_lsns == 0)
        bm_die("%s names no LSN", path);
}

int main(int argc, char **argv)
{
    struct bm_load load = bm_load_options(argc, argv);
    struct bm_result result;

    if (psock_split_address(bm_option(argc, argv, "--server", ""), 6400, options.host,
                            &options.port))
        bm_die("%s", co_sentence());
    if (co_id_parse(bm_option(argc, argv, "--timeline", ""), &options.timeline))
        bm_die("--timeline: 32 hex digits");
    options.pages = (uint32_t)bm_number(argc, argv, "--pages", 0);
    options.batch = (uint32_t)bm_number(argc, argv, "--batch", 1);
    if (options.batch < 1 || options.batch > CO_GETPAGES_MAX || options.pages < options.batch)
        bm_die("--pages, --batch: 1 to %d pages at a time of those that there are",
               CO_GETPAGES_MAX);
    read_lsns(bm_option(argc, argv, "--lsns", ""));
    load.open = client_open, load.once = client_once, load.close = client_close;
    bm_run(&load, &result);
    bm_print(&result, NULL);
    return 0;
}
