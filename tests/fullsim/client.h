/* client.h - what the files of the workload share: client.c lives, work.c does. */
#ifndef CORALLITE_TESTS_FULLSIM_CLIENT_H
#define CORALLITE_TESTS_FULLSIM_CLIENT_H

#include <sqlite3.h>

#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/oracle.h"

#define ACCOUNTS 24
#define BALANCE  1000
#define LISTS    4

struct user {
    uint32_t index, host;
    struct proc *proc;
    uint32_t server; /* its name of the pageserver: 10.0.server.9 */
    bool restarting;
    struct conn *conns[4];
};

/* One connection, on its own thread. */
struct conn {
    struct user *user;
    uint32_t id;
    sqlite3 *db;
    struct timeline *timeline;
    uint64_t opened_us;
    struct txn *txn;
    bool committing, full, off; /* synchronous: FULL; OFF or else NORMAL */
    uint32_t after_heal;        /* commits since */
    bool finished;
};

extern lsn_t setup_lsn; /* from here on the sums hold */

/* client.c */
sqlite3 *client_handle(struct conn *c, const char *branch, lsn_t at, int *rc);
/* Runs SQL; what succeeds in a transaction is remembered for the replay. An extended code. */
int client_sql(struct conn *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
long long client_int(struct conn *c, int *rc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void client_begin(struct conn *c);
/* COMMIT, or what stands for it when the statement is a transaction by itself. */
int client_commit(struct conn *c, const char *sql);
void client_rollback(struct conn *c, int rc);
void client_check_code(struct conn *c, int rc, const char *what);
/* May the connection be one of what had the name before a restore? */
bool client_may_be_of_before(const struct conn *c);

/* work.c */
int work_setup(struct conn *c);
void work_one(struct conn *c);
void work_read(struct conn *c, const char *why);
void work_resolve(struct conn *c);
/* The same connection, on another branch or at a moment; NULL db: it cannot be had now. */
struct conn work_other(struct conn *c, struct timeline *t, lsn_t at);

/* work_restore.c, work_drop.c: what was asked for and is not known yet; the asker was killed */
bool work_restores_open(void);
void work_restores_killed(uint32_t conn);
bool work_drops_open(void);
void work_drops_killed(uint32_t conn);
void work_check_drops(struct conn *c); /* what was dropped is not there */

/* work_pin.c */
void work_check_pins(struct conn *c); /* those that must be there are */
bool work_pins_archived(void);        /* by the newest manifest */

/* check.c */
void check_all(struct conn *c);
void check_timelines(uint32_t server); /* as the pageserver of this number serves them */

#endif
