/* redirect.h - Criterion's redirection of stdout, for the shim. */
#ifndef CORALLITE_TESTS_SHIM_REDIRECT_H
#define CORALLITE_TESTS_SHIM_REDIRECT_H

#include <stdio.h>

void cr_redirect_stdout(void);
FILE *cr_get_redirected_stdout(void);

#endif
