/* process_file.h - what a process uses, as metrics: memory, processor time, descriptors; and which
 * build it is. And what it may use. */
#ifndef CORALLITE_COMMON_PROCESS_FILE_H
#define CORALLITE_COMMON_PROCESS_FILE_H

#include <stdint.h>

/* Registers process_* and corallite_build_info. Once; any further call does nothing. */
void co_process_metrics(void);

/* As many descriptors as the hard limit allows: a connection is one. */
void co_process_raise_files(void);

/* How many processors it may use: at least 1. */
uint32_t co_process_processors(void);

#endif
