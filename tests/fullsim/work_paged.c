/* work_paged.c - changes at the level of pages: rows of any length, schema, savepoints, VACUUM. */
#include <stdlib.h>

#include "proto/limits.h"
#include "tests/fullsim/work.h"

/* A savepoint in the transaction is rolled back. */
static int detour(struct conn *c)
{
    int rc = client_sql(c, "savepoint s");
    if (!rc)
        rc = client_sql(c, "update thing set a = a + 1 where id %% 3 = 0");
    if (!rc)
        rc = client_sql(c, "delete from thing where id %% 5 = 1");
    if (!rc)
        rc = client_sql(c, "rollback to s");
    if (!rc)
        rc = client_sql(c, "release s");
    if (!rc)
        c->txn->savepoint = true;
    return rc;
}

static int change_things(struct conn *c)
{
    char *data = work_noise(1 + below(R_WORK, 12) * below(R_WORK, 400), below(R_WORK, 2));
    uint32_t n = 1 + below(R_WORK, 12), a = below(R_WORK, 100);
    int rc = 0;
    switch (below(R_WORK, 6)) {
    case 0:
    case 1:
        rc = client_sql(c,
                        "with recursive s(i) as (select 1 union all select i+1 from s where i<%u) "
                        "insert into thing(a, data) select %u + i, x'%s' from s",
                        n, a, data);
        break;
    case 2:
        rc = client_sql(c, "update thing set a = a + %u, data = x'%s' where a %% 7 = %u", n, data,
                        a % 7);
        break;
    case 3:
        rc = client_sql(c, "delete from thing where a %% 5 = %u", a % 5);
        break;
    case 4:
        rc = client_sql(c,
                        "delete from thing where id in (select id from thing order by a limit "
                        "%u)",
                        4 * n);
        break;
    default:
        rc = client_sql(c, "update thing set data = data || x'%s' where id %% 9 = %u", data, a % 9);
        break;
    }
    free(data);
    return rc;
}

static int change_schema(struct conn *c)
{
    uint32_t k = below(R_WORK, 3);
    int rc;
    switch (below(R_WORK, 4)) {
    case 0:
        rc = client_sql(c, "create table if not exists more%u(x, y)", k);
        if (!rc)
            rc = client_sql(c, "insert into more%u values(%lld, 'y')", k, (long long)c->txn->id);
        break;
    case 1:
        rc = client_sql(c, "drop table if exists more%u", k);
        break;
    case 2:
        rc = client_sql(c, "create index if not exists by_len%u on thing(length(data), a)", k);
        break;
    default:
        rc = client_sql(c, "drop index if exists by_len%u", k);
        break;
    }
    if (!rc)
        c->txn->ddl = true;
    return rc;
}

/* A blob of many pages, and a cache that does not hold them. */
static int much(struct conn *c)
{
    char *data = work_noise(2000, below(R_WORK, 2));
    int rc = client_sql(c, "pragma cache_size=10");
    uint32_t pages = 105 + below(R_WORK, 60);
    if (!rc)
        rc = client_sql(c,
                        "with recursive s(i) as (select 1 union all select i+1 from s where "
                        "i<%u) insert into thing(a, data) select -i, x'%s' || zeroblob(%u) "
                        "from s",
                        pages * sim.w.page_size / 4096 + 60, data, sim.w.page_size / 2);
    free(data);
    if (!rc)
        rc = client_sql(c, "delete from thing where a < -4");
    if (!rc)
        probe(P_SPILL);
    return rc;
}

void work_paged(struct conn *c)
{
    uint32_t what = below(R_WORK, 24);
    int rc;
    if (what == 0) {
        client_begin(c);
        c->txn->vacuum = true;
        (void)client_commit(c, sim.w.auto_vacuum == 2 && below(R_WORK, 2)
                                   ? "pragma incremental_vacuum(5)"
                                   : "vacuum");
        return;
    }
    rc = work_begin(c);
    if (!rc)
        rc = what < 4 ? change_schema(c) : what == 4 ? much(c) : change_things(c);
    if (!rc && below(R_WORK, 4) == 0)
        rc = detour(c);
    if (!rc && below(R_WORK, 3) == 0)
        rc = change_things(c);
    if (!rc)
        rc = work_sign(c);
    work_finish(c, rc);
}

/* More than a batch of the log (1 MiB) that cannot be compressed. */
void work_large(struct conn *c)
{
    if (below(R_WORK, 4)) { /* a seed has some, and not hundreds */
        work_paged(c);
        return;
    }
    int rc = work_begin(c);
    char *data = work_noise(sim.w.page_size - 200, true);
    if (!rc)
        rc = client_sql(c, "delete from thing where a < -4");
    if (!rc)
        rc = client_sql(c,
                        "with recursive s(i) as (select 1 union all select i+1 from s where i<%u) "
                        "insert into thing(a, data) select -i, x'%s' from s",
                        (uint32_t)CO_BATCH_BYTES * 5 / 4 / sim.w.page_size, data);
    free(data);
    if (!rc)
        rc = work_sign(c);
    work_finish(c, rc);
}
