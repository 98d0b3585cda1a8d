/*
 * server_uv.c - the life of the pageserver: what is opened in which order, the tick, and how it all
 * ends.
 *
 * Order of the start: identity (locks the directory), store, registry from the store, listener,
 * HTTP, safekeepers. "ready" is logged once a majority of them has listed its timelines; until then
 * what the store knows is served. The end: listener and connections, other loops, feeds, writer
 * (finishes what it was given), loop, store, identity.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "common/stop_uv.h"
#include "pageserver/server_uv.h"

#define MODULE  "pageserver"
#define TICK_MS 1000u

static void stop(struct ps_server *s)
{
    if (s->closing)
        return;
    s->closing = true;
    ps_serve_close(s);
    ps_loops_close(s);
    ps_follow_close(s);
    ps_catalog_close(s);
    ps_settle_close(s);
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        ps_feed_close(tl);
    ps_gc_close(s);
    ps_refill_close(s);
    ps_archive_close(s);
    ps_loads_close(s);
    ps_writer_stop(s->writer);
    uv_close((uv_handle_t *)&s->tick, NULL);
    uv_close((uv_handle_t *)&s->sigterm, NULL);
    uv_close((uv_handle_t *)&s->sigint, NULL);
}

void ps_server_fatal(struct ps_server *s)
{
    co_error(MODULE, "stops: %s", co_sentence());
    s->exit_code = 1;
    stop(s);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct ps_server *s = signal->data;
    co_info(MODULE, "stops signal=%s", number == SIGTERM ? "SIGTERM" : "SIGINT");
    stop(s);
}

static void check_map(struct ps_server *s)
{
    struct ps_store_stats st;
    struct statvfs disk;
    ps_store_clear_readers(s->store);
    ps_store_stats(s->store, &st);
    co_metric_set(&ps_m_map_used, st.used_bytes);
    co_metric_set(&ps_m_map_size, st.map_bytes);
    if (statvfs(s->options->dir, &disk) == 0)
        co_metric_set(&ps_m_disk_free, (uint64_t)disk.f_bavail * disk.f_frsize);
    bool alarm = st.used_bytes > st.map_bytes / 5 * 4;
    if (alarm && !s->map_alarm)
        co_warn(MODULE,
                "the store's map is more than 80 %% full, restart with a larger --map-size "
                "used_bytes=%llu map_bytes=%llu",
                (unsigned long long)st.used_bytes, (unsigned long long)st.map_bytes);
    s->map_alarm = alarm;
}

static void on_tick(uv_timer_t *timer)
{
    struct ps_server *s = timer->data;
    uint64_t open = 0;
    if (ps_store_given_up(s->store)) {
        co_fail(CO_ERR_IO,
                "the disk of %s failed while the store was written, and it can be used again only "
                "by a new start; "
                "see the lines above, mend the disk or make space, then start the pageserver",
                s->options->dir);
        ps_server_fatal(s);
        return;
    }
    ps_catalog_tick(s);
    if (s->closing)
        return;
    ps_settle_tick(s);
    ps_branch_tick(s);
    ps_follow_tick(s);
    if (s->closing)
        return;
    ps_gc_tick(s);
    ps_archive_tick(s);
    ps_serve_asks(s);
    ps_feeds_tick(s);
    ps_durable_tick(s);
    check_map(s);
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        open += ps_timeline_open(tl);
    co_metric_set(&ps_m_timelines, open);
    co_metric_set(&ps_m_pins, s->n_pins);
    ps_health_update(s);
}

static void say_if_small(const struct ps_server *s)
{
    struct ps_store_stats st;
    ps_store_stats(s->store, &st);
    if (!s->options->map_bytes && st.map_bytes < PS_MAP_BYTES)
        co_warn(MODULE,
                "the address space is limited, so the store may grow to less than the 1 TiB of "
                "the default; a higher `ulimit -v` helps map_bytes=%llu",
                (unsigned long long)st.map_bytes);
}

static int open_store(struct ps_server *s)
{
    const struct ps_options *o = s->options;
    char dir[500];
    int rc = co_identity_open(o->dir, "pageserver", 0, o->have_cluster ? &o->cluster : NULL,
                              &s->identity);
    if (rc)
        return rc;
    snprintf(dir, sizeof dir, "%s/store", o->dir);
    struct ps_store_options so = {.dir = dir,
                                  .map_bytes = o->map_bytes,
                                  .cluster = s->identity.cluster,
                                  .disk = s->identity.disk};
    rc = ps_store_open(&so, &s->store);
    if (!rc)
        say_if_small(s);
    if (!rc)
        rc = ps_read_new(s->store, &s->reader.txn);
    s->read = s->reader.txn;
    if (!rc)
        rc = ps_loops_start(s);
    if (!rc)
        rc = ps_archive_recover(s);
    if (!rc)
        rc = ps_catalog_load(s);
    if (!rc)
        rc = ps_writer_start(&s->loop, s->store, &s->writer);
    if (!rc)
        rc = ps_pins_load(s);
    if (!rc)
        rc = ps_archive_start(s);
    co_metric_set(&ps_m_store_ok, rc == 0);
    return rc;
}

static void init_handles(struct ps_server *s)
{
    int rc = uv_timer_init(&s->loop, &s->tick);
    rc |= uv_signal_init(&s->loop, &s->sigterm);
    rc |= uv_signal_init(&s->loop, &s->sigint);
    co_assert(rc == 0);
    s->tick.data = s->sigterm.data = s->sigint.data = s;
    uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
    uv_signal_start(&s->sigterm, on_signal, SIGTERM);
    uv_signal_start(&s->sigint, on_signal, SIGINT);
    co_stop_hold_signals();
}

static int start(struct ps_server *s)
{
    const struct ps_options *o = s->options;
    int rc = ps_settle_start(s);
    if (!rc)
        rc = ps_serve_start(s);
    if (!rc)
        rc = ps_health_start(s);
    if (rc)
        return rc;
    init_handles(s);
    check_map(s);
    rc = ps_catalog_start(s);
    co_assert(rc == 0);
    rc = ps_follow_start(s);
    co_assert(rc == 0);
    co_info(MODULE,
            "listening addr=%s:%u http=%s:%u dir=%s timelines=%u; waiting for %u of %u "
            "safekeepers",
            o->listen_host, peer_server_port(s->listener), o->http ? o->http_host : "off",
            s->http ? co_http_port(s->http) : 0, o->dir, s->reg.n, ps_reg_majority(&s->reg),
            s->reg.n_nodes);
    return 0;
}

int ps_server_run(const struct ps_options *options)
{
    struct ps_server *s = calloc(1, sizeof *s);
    if (!s || uv_loop_init(&s->loop)) {
        free(s);
        co_error(MODULE, "no memory");
        return 1;
    }
    s->options = options;
    s->identity.lock_fd = -1;
    s->started_us = co_now_us();
    ps_metrics_register();
    int rc = open_store(s);
    if (!rc)
        rc = start(s);
    if (rc) {
        co_error(MODULE, "cannot start: %s", co_sentence());
        s->exit_code = 1;
        ps_settle_close(s);
        ps_serve_close(s);
        ps_loops_close(s);
        ps_archive_close(s);
        ps_writer_stop(s->writer);
    }
    uv_run(&s->loop, UV_RUN_DEFAULT);
    rc = uv_loop_close(&s->loop);
    co_assert(rc == 0);
    ps_health_stop(s);
    ps_reg_free(&s->reg);
    ps_pins_free(s);
    ps_loops_free(s);
    free(s->snapshots.all);
    ps_reader_free(&s->reader);
    ps_store_close(s->store);
    if (s->identity.lock_fd >= 0)
        co_identity_close(&s->identity);
    int code = s->exit_code;
    free(s);
    if (code == 0)
        co_info(MODULE, "stopped");
    return code;
}
