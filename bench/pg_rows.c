/*
 * pg_rows.c - the load of rows.c on PostgreSQL, by libpq, with prepared statements.
 *
 *   pg_rows insert|count|make --conninfo TEXT [--threads 1] [--seconds 2] [--warm 0.3]
 */
#include <arpa/inet.h>
#include <endian.h>
#include <postgresql/libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/row.h"

struct client {
    PGconn *db;
    struct row row;
};

static PGconn *connect_to(const char *conninfo)
{
    PGconn *db = PQconnectdb(conninfo);
    if (PQstatus(db) != CONNECTION_OK)
        bm_die("%s", PQerrorMessage(db));
    return db;
}

static PGresult *must(PGconn *db, PGresult *r)
{
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        bm_die("%s", PQerrorMessage(db));
    return r;
}

static void *insert_open(void *context, int no)
{
    struct client *c = calloc(1, sizeof *c);
    if (c == NULL)
        bm_die("no memory");
    c->db = connect_to(context);
    PQclear(must(c->db, PQprepare(c->db, "i", "INSERT INTO t(k, v) VALUES($1::bigint, $2::bytea)",
                                  2, NULL)));
    row_begin(&c->row, no);
    return c;
}

static uint64_t insert_once(void *client, uint64_t n)
{
    struct client *c = client;
    (void)n;
    row_next(&c->row);
    uint64_t k = htobe64(c->row.k);
    const char *values[] = {(const char *)&k, c->row.v};
    const int lengths[] = {sizeof k, ROW_BYTES}, binary[] = {1, 1};
    PQclear(must(c->db, PQexecPrepared(c->db, "i", 2, values, lengths, binary, 1)));
    return c->row.k;
}

static void client_close(void *client)
{
    struct client *c = client;
    PQfinish(c->db);
    free(c);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    char *conninfo = strdup(bm_option(argc, argv, "--conninfo", ""));
    struct bm_load load = bm_load_options(argc, argv);
    struct bm_result result;

    load.context = conninfo;
    load.open = insert_open, load.once = insert_once, load.close = client_close;
    if (strcmp(mode, "insert") == 0) {
        bm_run(&load, &result);
        bm_print(&result, NULL);
    } else if (strcmp(mode, "make") == 0) {
        PGconn *db = connect_to(conninfo);
        PQclear(
            must(db, PQexec(db, "CREATE TABLE t(id bigserial PRIMARY KEY, k bigint, v bytea)")));
        PQfinish(db);
    } else if (strcmp(mode, "count") == 0) {
        PGconn *db = connect_to(conninfo);
        PGresult *r = must(db, PQexec(db, "SELECT count(*), coalesce(sum(k), 0) FROM t"));
        printf("{\"n\": %s, \"sum\": %s}\n", PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 1));
        PQclear(r);
        PQfinish(db);
    } else {
        bm_die("the modes are insert, count, make");
    }
    free(conninfo);
    return 0;
}
