/*
 * process_file.h - the daemons of a local cluster as processes: start, alive, stop, last words.
 *
 * A daemon is started in a session of its own with its output appended to D/log/NAME.log, and lives
 * on when the command that started it has ended. D/run/NAME.pid tells later commands which process
 * it is; a process is only ever signalled after its start time and the boot have been compared.
 */
#ifndef CORALLITE_CLI_PROCESS_FILE_H
#define CORALLITE_CLI_PROCESS_FILE_H

#include <stdbool.h>

#include "cli/cluster.h"

/* The pid of node `index` when its process lives, else 0. */
int process_alive(const struct cluster *c, unsigned index);

/* Starts a program; its pid file is written. *log_offset: where its own lines begin in the log. */
CO_MUST_CHECK int process_start(const struct cluster *c, unsigned index, char *const argv[],
                                int *pid, long long *log_offset);

/* Sends a signal, if the process lives. */
void process_signal(const struct cluster *c, unsigned index, int signal_number);

/* Forgets the pid file. */
void process_forget(const struct cluster *c, unsigned index);

/* What the daemon said last at or after log_offset: the message of its last error line, else of its
 * last line, else "". */
void process_last_words(const struct cluster *c, unsigned index, long long log_offset,
                        char out[512]);

/* CO_ERR_BUSY with a sentence when something listens on 127.0.0.1:port. */
CO_MUST_CHECK int process_port_free(const char *what, uint16_t port);

/* The directory that this executable lies in. */
CO_MUST_CHECK int process_own_dir(char out[PATH_MAX]);
/* A program beside this one, or the extension (build/, or PREFIX/bin and PREFIX/lib/corallite). */
CO_MUST_CHECK int process_find(const char *name, char out[PATH_MAX]);

#endif
