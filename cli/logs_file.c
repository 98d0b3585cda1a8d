/* logs_file.c - `corallite logs`: what the daemons of a local cluster said, and say. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/cluster.h"
#include "cli/json.h"

#define FOLLOW_MS 200u
#define LINES_MAX 1000000ul

struct tail {
    int fd;
    off_t at; /* shown up to here */
    const char *name;
    bool line_open; /* the last byte shown was not the end of a line */
};

/* Shows what was appended since; a file that became shorter is shown from its begin. */
static void show_new(struct tail *t, bool with_name)
{
    char bytes[65536];
    struct stat st;
    if (fstat(t->fd, &st) == 0 && st.st_size < t->at)
        t->at = 0;
    for (ssize_t n; (n = pread(t->fd, bytes, sizeof bytes, t->at)) > 0; t->at += n)
        for (ssize_t i = 0; i < n; i++) {
            if (with_name && !t->line_open)
                printf("%-13s ", t->name);
            t->line_open = bytes[i] != '\n';
            putchar(bytes[i]);
        }
}

/* Where the last `lines` lines begin. */
static off_t last_lines(int fd, unsigned long lines)
{
    char bytes[4096];
    off_t end = lseek(fd, 0, SEEK_END), at = end;
    unsigned long seen = 0;
    while (at > 0) {
        size_t want = at > (off_t)sizeof bytes ? sizeof bytes : (size_t)at;
        ssize_t n = pread(fd, bytes, want, at - (off_t)want);
        if (n != (ssize_t)want)
            return 0;
        for (size_t i = want; i > 0; i--)
            if (bytes[i - 1] == '\n' && at - (off_t)want + (off_t)i != end && ++seen == lines)
                return at - (off_t)want + (off_t)i;
        at -= (off_t)want;
    }
    return 0;
}

static int parse_lines(const char *text, unsigned long *out)
{
    char *end;
    *out = 20;
    if (!text)
        return 0;
    *out = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || *out > LINES_MAX)
        return co_fail(CO_ERR_INVAL, "--lines is a number up to %lu; there is '%.40s'", LINES_MAX,
                       text);
    return 0;
}

/* Opens the logs that there are: of one daemon, or of all. */
static int open_logs(const struct cluster *c, const char *name,
                     struct tail tails[CLUSTER_NODES_MAX], unsigned *n)
{
    unsigned only = 0;
    int rc = name ? cluster_node_by_name(c, name, &only) : 0;
    if (rc)
        return rc;
    *n = 0;
    for (unsigned i = 0; i < c->n; i++) {
        char path[PATH_MAX];
        if (name && i != only)
            continue;
        tails[*n].name = c->at[i].name;
        cluster_path(c, "log", tails[*n].name, ".log", path);
        tails[*n].fd = open(path, O_RDONLY | O_CLOEXEC);
        if (tails[*n].fd >= 0)
            (*n)++;
        else if (errno != ENOENT)
            return co_fail_errno(CO_ERR_IO, errno, "%s cannot be read", path);
    }
    if (*n == 0)
        return co_fail(CO_ERR_NOT_FOUND,
                       "there is no log yet in %s/log; `corallite up` starts the "
                       "daemons",
                       c->dir);
    return 0;
}

/* What is in the file from t->at on, line by line. */
static int add_lines(json_t *all, const struct tail *t)
{
    char *line = NULL;
    size_t cap = 0;
    int bad = 0;
    FILE *in = fdopen(t->fd, "r");
    if (!in || fseeko(in, t->at, SEEK_SET) != 0)
        return co_fail_errno(CO_ERR_IO, errno, "the log of %s cannot be read", t->name);
    for (ssize_t n; (n = getline(&line, &cap, in)) > 0;) {
        size_t len = (size_t)n - (line[n - 1] == '\n');
        json_t *text = json_stringn(line, len); /* NULL: it is no UTF-8 */
        bad |= json_array_append_new(
            all, json_pack("{s:s,s:o}", "daemon", t->name, "line", text ? text : json_null()));
    }
    free(line);
    fclose(in);
    return bad ? co_fail(CO_ERR_NOMEM, "there is no memory for the answer") : 0;
}

static int print_json(const struct tail *tails, unsigned n)
{
    json_t *all = json_array();
    int rc = 0;
    for (unsigned i = 0; i < n && !rc; i++)
        rc = add_lines(all, &tails[i]);
    if (!rc)
        return cli_print_json(all);
    json_decref(all);
    return rc;
}

int cli_logs(const struct cli_args *args)
{
    static struct cluster c;
    struct tail tails[CLUSTER_NODES_MAX] = {{0}};
    unsigned n = 0;
    unsigned long lines;
    const char *name = args->n_words ? args->words[0] : NULL;
    int rc = parse_lines(cli_value(args, "--lines"), &lines);
    if (!rc && cli_has(args, "--json") && cli_has(args, "--follow"))
        rc =
            co_fail(CO_ERR_INVAL, "--follow has no end, and --json is one value; give one of them");
    if (!rc)
        rc = cluster_open(cli_value(args, "--dir"), &c);
    if (!rc)
        rc = open_logs(&c, name, tails, &n);
    if (rc)
        return cli_report(rc);
    for (unsigned i = 0; i < n; i++)
        tails[i].at = lines ? last_lines(tails[i].fd, lines) : lseek(tails[i].fd, 0, SEEK_END);
    if (cli_has(args, "--json"))
        return cli_report(print_json(tails, n));
    do {
        for (unsigned i = 0; i < n; i++)
            show_new(&tails[i], n > 1);
        if (fflush(stdout) != 0)
            return CLI_FAILED; /* nobody reads any more */
    } while (cli_has(args, "--follow") && usleep(FOLLOW_MS * 1000) == 0);
    return CLI_DONE;
}
