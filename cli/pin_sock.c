/* pin_sock.c - `corallite pin ...`: moments that have a name and stay readable. */
#include <stdio.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/json.h"
#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/ref.h"
#include "common/clock_file.h"

static json_t *pin_json(const Corallite__Pins__One *p)
{
    return json_pack("{s:s,s:s,s:o,s:o,s:o}", "name", p->name ? p->name : "", "branch",
                     p->branch ? p->branch : "", "lsn", answer_lsn(p->lsn), "time",
                     answer_moment(p->time_us), "created", answer_moment(p->created_us));
}

static int pins_json(const Corallite__Pins *m)
{
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_pins; i++)
        if (json_array_append_new(all, pin_json(m->pins[i])) != 0) {
            json_decref(all);
            return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
        }
    return cli_print_json(all);
}

static void print_pins(const Corallite__Pins *m, const char *db)
{
    if (m->n_pins == 0) {
        printf("%s has no pin; `corallite pin create %s@-10m NAME` makes one\n", db, db);
        return;
    }
    printf("%-24s  %-28s  %-27s  %s\n", "PIN", "BRANCH", "MOMENT", "LSN");
    for (size_t i = 0; i < m->n_pins; i++) {
        const Corallite__Pins__One *p = m->pins[i];
        char time[WHEN_TEXT], lsn[LSN_TEXT];
        printf("%-24s  %-28s  %-27s  %s\n", p->name ? p->name : "?", p->branch ? p->branch : "?",
               answer_time(p->time_us, time), lsn_format(p->lsn, lsn));
    }
}

int cli_pin_list(const struct cli_args *args)
{
    const char *db = args->words[0];
    Corallite__PinList q = CORALLITE__PIN_LIST__INIT;
    Corallite__Pins *m = NULL;
    int rc = name_check(db);
    q.database = (char *)db;
    if (!rc)
        rc =
            client_ask(args, FRAME_PIN_LIST, &q.base, FRAME_PINS, &corallite__pins__descriptor, &m);
    if (rc)
        return cli_report(rc);
    if (cli_has(args, "--json"))
        rc = pins_json(m);
    else
        print_pins(m, db);
    corallite__pins__free_unpacked(m, NULL);
    return cli_report(rc);
}

/* The pin of this name in the pageserver's answer, which may list others beside it. */
static const Corallite__Pins__One *named(const Corallite__Pins *m, const char *name)
{
    for (size_t i = 0; i < m->n_pins; i++)
        if (m->pins[i]->name && strcmp(m->pins[i]->name, name) == 0)
            return m->pins[i];
    return NULL;
}

int cli_pin_create(const struct cli_args *args)
{
    struct ref r;
    const char *name = args->words[1];
    char time[WHEN_TEXT], lsn[LSN_TEXT], of[REF_TEXT];
    Corallite__Pin q = CORALLITE__PIN__INIT;
    Corallite__Pins *m = NULL;
    int rc = ref_parse(args->words[0], co_wall_us(), &r);
    if (!rc)
        rc = name_check(name);
    q.database = r.db;
    q.branch = r.branch;
    q.name = (char *)name;
    q.at = r.at;
    if (!rc)
        rc = client_ask(args, FRAME_PIN, &q.base, FRAME_PINS, &corallite__pins__descriptor, &m);
    if (rc)
        return cli_report(rc);
    const Corallite__Pins__One *p = named(m, name);
    if (!p)
        rc = co_fail(CO_ERR_PROTOCOL, "the pageserver did not say what it pinned");
    else if (cli_has(args, "--json"))
        rc = cli_print_json(pin_json(p));
    else
        printf("pinned %s at %s (lsn %s)\nopen it:  corallite sql %s@pin:%s\n",
               ref_format(r.db, r.branch, of), answer_time(p->time_us, time),
               lsn_format(p->lsn, lsn), of, name);
    corallite__pins__free_unpacked(m, NULL);
    return cli_report(rc);
}

int cli_pin_drop(const struct cli_args *args)
{
    const char *db = args->words[0], *name = args->words[1];
    Corallite__Pin q = CORALLITE__PIN__INIT;
    int rc = name_check(db);
    if (!rc)
        rc = name_check(name);
    q.database = (char *)db;
    q.name = (char *)name;
    q.has_drop = q.drop = 1;
    if (!rc)
        rc = client_ask(args, FRAME_PIN, &q.base, FRAME_PINS, NULL, NULL);
    if (rc)
        return cli_report(rc);
    if (cli_has(args, "--json"))
        return cli_report(cli_print_json(json_pack("{s:s,s:s}", "database", db, "dropped", name)));
    printf("dropped the pin %s of %s\n", name, db);
    return CLI_DONE;
}
