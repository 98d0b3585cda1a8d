/*
 * mistake.c - linked into products that were built with -DCO_MUTATIONS (make chaos-mistakes): the
 * environment says which of the known mistakes they make, CORALLITE_MISTAKE=ACK_BEFORE_FSYNC.
 */
#include "common/mutation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum co_mutation co_mutation;

__attribute__((constructor)) static void choose_mistake(void)
{
    static const char *const names[] = {"",
#define CO_X(name, text, seeds, slow) #name,
                                        CO_MUTATION_LIST(CO_X)
#undef CO_X
    };
    const char *wanted = getenv("CORALLITE_MISTAKE");
    for (int i = 0; wanted && i < CO_MUTATION_COUNT; i++) {
        if (strcmp(wanted, names[i]) == 0) {
            co_mutation = (enum co_mutation)i;
            return;
        }
    }
    fprintf(stderr, "CORALLITE_MISTAKE has to name a mistake of common/mutation.h\n");
    exit(2);
}
