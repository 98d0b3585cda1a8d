/*
 * connect_file.c - `corallite connect DB --lang L`: a program of a few lines that opens the
 * database with the SQLite library that the language has, with this machine's paths filled in.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/connect.h"
#include "cli/json.h"
#include "cli/process_file.h"
#include "cli/ref.h"
#include "cli/text.h"
#include "common/assert.h"
#include "common/clock_file.h"

#define LANGUAGES     "c, python, node, perl, php, ruby, tcl, go, java"
#define LANGUAGES_MAX 16u

static int find_language(const char *name, const char **text)
{
    const char *names[LANGUAGES_MAX];
    co_assert(connect_n_texts <= LANGUAGES_MAX);
    for (size_t i = 0; i < connect_n_texts; i++) {
        names[i] = connect_texts[i].language;
        if (name && strcmp(name, names[i]) == 0) {
            *text = connect_texts[i].text;
            return 0;
        }
    }
    if (!name)
        return co_fail(CO_ERR_INVAL, "for which language? --lang " LANGUAGES " or env");
    const char *near = cli_nearest(name, names, connect_n_texts);
    return co_fail(CO_ERR_INVAL,
                   "there is no program for '%.40s'%s%s%s; there is one for " LANGUAGES " and env",
                   name, near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

struct values {
    const char *extension, *directory, *server, *uri;
};

static const char *value_of(char letter, const struct values *v)
{
    switch (letter) {
    case 'E':
        return v->extension;
    case 'D':
        return v->directory;
    case 'S':
        return v->server;
    case 'U':
        return v->uri;
    default:
        return NULL;
    }
}

static void fill_in(FILE *out, const char *text, const struct values *values)
{
    for (; *text; text++) {
        const char *value = text[0] == '@' ? value_of(text[1], values) : NULL;
        if (value)
            fputs(value, out), text++;
        else
            fputc(*text, out);
    }
}

static int print_json(const char *language, const char *text, const struct values *v)
{
    char *program = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&program, &n);
    if (!out)
        return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
    fill_in(out, text, v);
    if (fclose(out) != 0)
        return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
    int rc =
        cli_print_json(json_pack("{s:s,s:s,s:s,s:s,s:s}", "language", language, "program", program,
                                 "uri", v->uri, "server", v->server, "extension", v->extension));
    free(program);
    return rc;
}

int cli_connect(const struct cli_args *args)
{
    static struct client_target target;
    struct ref r;
    const char *text = NULL;
    char path[PATH_MAX], directory[PATH_MAX], address[CLIENT_SERVERS_TEXT];
    char uri[REF_URI + CLIENT_SERVERS_TEXT + 4 * WHEN_AT_MAX + 32], name[REF_TEXT],
        at[3 * WHEN_AT_MAX];
    int rc = ref_parse(args->words[0], co_wall_us(), &r);
    if (!rc)
        rc = find_language(cli_value(args, "--lang"), &text);
    if (!rc)
        rc = client_target(args, &target);
    if (!rc)
        rc = process_find("corallite.so", path);
    if (!rc && path[strcspn(path, "'\"\\\n")])
        rc = co_fail(CO_ERR_INVAL, "the extension's path %s has quotes in it; move it elsewhere",
                     path);
    if (rc)
        return cli_report(rc);
    path[strlen(path) - strlen(".so")] = 0; /* SQLite adds it */
    snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path), path);
    client_servers(&target, address);
    snprintf(uri, sizeof uri, "file:%s?vfs=corallite&server=%s%s%s",
             ref_format(r.db, r.branch, name), address, r.at[0] ? "&at=" : "",
             text_percent(r.at, at, sizeof at));
    const struct values values = {path, directory, address, uri};
    if (cli_has(args, "--json"))
        return cli_report(print_json(cli_value(args, "--lang"), text, &values));
    fill_in(stdout, text, &values);
    return CLI_DONE;
}
