/*
 * cli.h - what the verbs of the corallite command share.
 *
 * A verb is a row of cli_verbs (verbs.c): its name, what it takes, its help and its function.
 * main.c finds the row, parses the arguments by it, and calls the function. Exit codes: 0 done, 1
 * failed (the sentence is on stderr), 2 wrong use (the sentence says what is right).
 *
 * One thread; everything lives until the process ends unless a header says otherwise.
 */
#ifndef CORALLITE_CLI_CLI_H
#define CORALLITE_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "cli/args.h"

enum cli_exit { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli_verb {
    const char *name;     /* "up", "db create" */
    const char *synopsis; /* after the name: "[--dir D]" */
    const char *summary;  /* one line */
    const char *details;  /* paragraphs, or "" */
    const char *examples; /* lines that can be pasted */
    const struct cli_option *options;
    const char *words[2];     /* what its arguments are, for completion: "REF", "DB", "FILE", ... */
    const char *exits;        /* exit codes; NULL: as of all */
    int min_words, max_words; /* positional arguments; max < 0: any number */
    bool passes_on;           /* from the first positional on, everything is somebody else's */
    int (*run)(const struct cli_args *args);
};

extern const struct cli_verb cli_verbs[];
extern const size_t cli_n_verbs;

/* The verb that the first words of argv name, and how many words that took; NULL: none. */
const struct cli_verb *cli_find_verb(int argc, char *const argv[], int *used);
/* Fails with a sentence that proposes the nearest verb. */
int cli_unknown_verb(int argc, char *const argv[]);

/* help.c */
void cli_help_all(void);
/* The verbs that begin with this word ("branch"); false, and nothing printed: there are none. */
bool cli_help_family(const char *first);
void cli_help_verb(const struct cli_verb *verb);
/* The whole table, or one verb of it. */
CO_MUST_CHECK int cli_help_json(const struct cli_verb *only);
/* man_file.c */
void cli_man_all(FILE *out);
void cli_man_verb(const struct cli_verb *verb, FILE *out);
/* Writes corallite.1 and a page for each verb; CO_ERR_IO. */
CO_MUST_CHECK int cli_man_dir(const char *directory);
#define CLI_EXITS "0 done, 1 failed (standard error says why), 2 wrong use"

/* Prints co_sentence() on stderr and returns the exit code that goes with an error: wrong use for
 * CO_ERR_INVAL, failed for the rest. */
int cli_report(int error);

/* The whole command: argv as main has it; returns the exit code. */
int cli_run(int argc, char **argv);

/* The verbs. */
int cli_up(const struct cli_args *args);
int cli_archive_check(const struct cli_args *args);
int cli_archive_prune(const struct cli_args *args);
int cli_down(const struct cli_args *args);
int cli_status(const struct cli_args *args);
int cli_db_create(const struct cli_args *args);
int cli_db_list(const struct cli_args *args);
int cli_db_drop(const struct cli_args *args);
int cli_db_name(const struct cli_args *args);
int cli_branch_create(const struct cli_args *args);
int cli_branch_list(const struct cli_args *args);
int cli_branch_rename(const struct cli_args *args);
int cli_branch_drop(const struct cli_args *args);
int cli_branch_reset(const struct cli_args *args);
int cli_branch_protect(const struct cli_args *args);
int cli_branch_unprotect(const struct cli_args *args);
int cli_pin_create(const struct cli_args *args);
int cli_pin_list(const struct cli_args *args);
int cli_pin_drop(const struct cli_args *args);
int cli_retention_set(const struct cli_args *args);
int cli_retention_show(const struct cli_args *args);
int cli_gc(const struct cli_args *args);
int cli_pageserver_list(const struct cli_args *args);
int cli_pageserver_promote(const struct cli_args *args);
int cli_pageserver_remove(const struct cli_args *args);
int cli_pageserver_forget(const struct cli_args *args);
int cli_safekeeper_add(const struct cli_args *args);
int cli_safekeeper_catch_up(const struct cli_args *args);
int cli_safekeeper_list(const struct cli_args *args);
int cli_safekeeper_replace(const struct cli_args *args);
int cli_restore(const struct cli_args *args);
int cli_log(const struct cli_args *args);
int cli_export(const struct cli_args *args);
int cli_import(const struct cli_args *args);
int cli_check(const struct cli_args *args);
int cli_repair(const struct cli_args *args);
int cli_diff(const struct cli_args *args);
int cli_connect(const struct cli_args *args);
int cli_sql(const struct cli_args *args);
int cli_exec(const struct cli_args *args);
int cli_env(const struct cli_args *args);
int cli_logs(const struct cli_args *args);
int cli_completion(const struct cli_args *args);
int cli_version(const struct cli_args *args);
int cli_help(const struct cli_args *args);

#endif
