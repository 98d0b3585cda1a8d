/* db_sock.c - `corallite db create|list|drop`: the catalog, through the pageserver. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/answer.h"
#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/confirm_file.h"
#include "cli/json.h"
#include "cli/import_file.h"
#include "cli/text.h"
#include "common/clock_file.h"
#include "proto/lsn.h"
#include "proto/name.h"

/* Creating waits for a majority of safekeepers to have the timeline on disk. */
#define CREATE_TIMEOUT_MS 30000u
#define PURGE_TIMEOUT_MS  605000u /* longer than the pageserver waits */

/* -- create --------------------------------------------------------------------------------------
 */

static int print_created(const struct cli_args *args, const char *name, const Corallite__Opened *m)
{
    char database[CO_ID_TEXT], timeline[CO_ID_TEXT];
    answer_id(m->timeline->database, database);
    answer_id(m->timeline->id, timeline);
    if (cli_has(args, "--json"))
        return cli_print_json(json_pack("{s:s,s:s,s:s,s:s}", "name", name, "id", database, "branch",
                                        "main", "timeline", timeline));
    printf("created %s (id %s)\nopen it:  corallite sql %s\n", name, database, name);
    return 0;
}

int cli_db_create(const struct cli_args *args)
{
    const char *name = args->words[0];
    const char *file = cli_value(args, "--from-file"), *from = cli_value(args, "--from");
    struct client c;
    int rc = name_check(name);
    if (!rc && file && from)
        rc = co_fail(CO_ERR_INVAL, "--from-file and --from contradict; give one of them");
    if (!rc && (file || from))
        return cli_report(import_database(args, file, from, name));
    if (!rc)
        rc = client_open_args(&c, args);
    if (rc)
        return cli_report(rc);
    struct co_id id = co_id_random();
    Corallite__Create request = CORALLITE__CREATE__INIT;
    request.database = (char *)name;
    request.has_database_id = 1;
    request.database_id = (ProtobufCBinaryData){.len = sizeof id.b, .data = id.b};
    Corallite__Opened *m = NULL;
    rc = client_call(&c, FRAME_CREATE, &request.base, FRAME_OPENED, &corallite__opened__descriptor,
                     CREATE_TIMEOUT_MS, &m);
    client_close(&c);
    if (rc)
        return cli_report(rc);
    /* The pageserver answers with what has the name now: somebody else's id means it was there. */
    if (!m->timeline)
        rc = co_fail(CO_ERR_PROTOCOL, "the pageserver did not say what it created");
    else if (m->timeline->database.len != sizeof id.b ||
             memcmp(m->timeline->database.data, id.b, sizeof id.b) != 0)
        rc = co_fail(CO_ERR_EXISTS,
                     "a database '%s' exists already; `corallite sql %s` opens it, `corallite db "
                     "drop %s` removes it",
                     name, name, name);
    else
        rc = print_created(args, name, m);
    corallite__opened__free_unpacked(m, NULL);
    return rc ? cli_report(rc) : CLI_DONE;
}

/* -- list ----------------------------------------------------------------------------------------
 */

static json_t *db_json(const Corallite__DbListed__Db *d)
{
    char id[CO_ID_TEXT];
    json_t *branches = json_array();
    for (size_t i = 0; i < d->n_branches; i++)
        json_array_append_new(branches, json_string(d->branches[i]));
    return json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:I,s:I}", "name", d->name ? d->name : "", "id",
                     answer_id(d->id, id), "branches", branches, "created",
                     answer_moment(d->created_us), "last_commit", answer_moment(d->last_commit_us),
                     "last_record_lsn", answer_lsn(d->last_record_lsn), "pages",
                     (json_int_t)d->db_pages, "page_size", (json_int_t)d->page_size);
}

static int print_list_json(const Corallite__DbListed *m)
{
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_databases; i++)
        if (json_array_append_new(all, db_json(m->databases[i])) != 0) {
            json_decref(all);
            return co_fail(CO_ERR_BUG, "the list of databases cannot be written as JSON");
        }
    return cli_print_json(all);
}

static void print_list(const Corallite__DbListed *m)
{
    if (m->n_databases == 0) {
        puts("there is no database yet; `corallite sql NAME` makes one at its first write");
        return;
    }
    printf("%-24s %-10s %8s %-20s %-16s %s\n", "NAME", "SIZE", "PAGES", "LAST COMMIT", "LSN",
           "BRANCHES");
    for (size_t i = 0; i < m->n_databases; i++) {
        const Corallite__DbListed__Db *d = m->databases[i];
        char size[TEXT_MAX], when[TEXT_MAX], lsn[LSN_TEXT];
        printf("%-24s %-10s %8u %-20s %-16s", d->name ? d->name : "?",
               text_bytes((uint64_t)d->db_pages * d->page_size, size), (unsigned)d->db_pages,
               text_time(d->last_commit_us, when), lsn_format(d->last_record_lsn, lsn));
        for (size_t b = 0; b < d->n_branches; b++)
            printf(" %s", d->branches[b]);
        putchar('\n');
    }
}

int cli_db_list(const struct cli_args *args)
{
    struct client c;
    int rc = client_open_args(&c, args);
    if (rc)
        return cli_report(rc);
    Corallite__DbList request = CORALLITE__DB_LIST__INIT;
    Corallite__DbListed *m = NULL;
    rc = client_call(&c, FRAME_DB_LIST, &request.base, FRAME_DB_LISTED,
                     &corallite__db_listed__descriptor, CLIENT_TIMEOUT_MS, &m);
    client_close(&c);
    if (rc)
        return cli_report(rc);
    if (cli_has(args, "--json"))
        rc = print_list_json(m);
    else
        print_list(m);
    corallite__db_listed__free_unpacked(m, NULL);
    return rc ? cli_report(rc) : CLI_DONE;
}

/* -- drop ----------------------------------------------------------------------------------------
 */

int cli_db_drop(const struct cli_args *args)
{
    const char *name = args->words[0];
    char question[200];
    struct client c;
    int rc = name_check(name);
    if (rc)
        return cli_report(rc);
    snprintf(question, sizeof question, "Drop the database '%s' with all its history?", name);
    rc = confirm(question, cli_has(args, "--yes"));
    if (!rc)
        rc = client_open_args(&c, args);
    if (rc)
        return cli_report(rc);
    Corallite__Drop request = CORALLITE__DROP__INIT;
    request.database = (char *)name;
    request.has_purge = request.purge = cli_has(args, "--purge");
    rc = client_call(&c, FRAME_DROP, &request.base, FRAME_DROPPED, NULL,
                     request.purge ? PURGE_TIMEOUT_MS : CREATE_TIMEOUT_MS, NULL);
    client_close(&c);
    if (rc)
        return cli_report(rc);
    if (!cli_has(args, "--json"))
        printf("dropped %s%s\n", name, request.purge ? ", and nothing is left of it" : "");
    else
        rc = cli_print_json(json_pack("{s:s,s:b}", "dropped", name, "purged", request.purge));
    return rc ? cli_report(rc) : CLI_DONE;
}
