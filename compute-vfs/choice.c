#include "compute-vfs/choice.h"

#include "common/assert.h"

void cv_choice_init(struct cv_choice *c, uint32_t n)
{
    co_assert(n >= 1 && n <= CV_SERVERS_MAX);
    *c = (struct cv_choice){.n = n};
}

/* Of one whose time is over one question at a time asks whether it is there again. */
static bool begin_probe(struct cv_choice *c, uint32_t i, uint64_t now_us)
{
    if (now_us < c->server[i].away_until_us)
        return false;
    if (c->server[i].probed_us && now_us < c->server[i].probed_us + CV_AWAY_MIN_US)
        return false;
    c->server[i].probed_us = now_us;
    return true;
}

void cv_choice_order(struct cv_choice *c, uint64_t now_us, struct cv_try out[CV_SERVERS_MAX])
{
    bool taken[CV_SERVERS_MAX] = {false};
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->n; i++) {
        bool there = c->server[i].away_until_us == 0;
        bool probe = !there && begin_probe(c, i, now_us);
        if (!there && !probe)
            continue;
        taken[i] = true;
        out[n++] = (struct cv_try){.server = i, .probe = probe};
        if (there)
            break; /* those behind it are not probed: nobody would go to them */
    }
    for (int away = 0; away < 2; away++)
        for (uint32_t i = 0; i < c->n; i++)
            if (!taken[i] && (c->server[i].away_until_us != 0) == away) {
                taken[i] = true;
                out[n++] = (struct cv_try){.server = i, .probe = away};
            }
    co_assert(n == c->n);
}

uint64_t cv_choice_bound_us(const struct cv_choice *c, struct cv_try t, unsigned round,
                            uint64_t most_us)
{
    uint64_t us = t.probe ? CV_PROBE_US : CV_TRY_SHORT_US;

    if (c->n == 1)
        return most_us;
    us <<= round < 8 ? round : 8;
    return us < most_us ? us : most_us;
}

void cv_choice_answered(struct cv_choice *c, uint32_t server)
{
    c->server[server].away_until_us = c->server[server].away_us = c->server[server].probed_us = 0;
}

void cv_choice_failed(struct cv_choice *c, uint32_t server, uint64_t now_us)
{
    uint64_t us = c->server[server].away_us * 2;

    /* Several questions that were under way fail at once: they are one failure. */
    if (now_us < c->server[server].away_until_us)
        return;
    if (us < CV_AWAY_MIN_US)
        us = CV_AWAY_MIN_US;
    if (us > CV_AWAY_MAX_US)
        us = CV_AWAY_MAX_US;
    c->server[server].away_us = us;
    c->server[server].away_until_us = now_us + us;
    c->server[server].probed_us = 0;
}
