#include "cli/confirm_file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

int confirm(const char *question, bool yes)
{
    char answer[32] = "";
    if (yes)
        return 0;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return co_fail(CO_ERR_INVAL, "%s There is nobody to ask here: say --yes", question);
    fprintf(stderr, "%s Type yes to do it: ", question);
    if (!fgets(answer, sizeof answer, stdin))
        answer[0] = 0;
    answer[strcspn(answer, "\n")] = 0;
    if (strcmp(answer, "yes") == 0)
        return 0;
    return co_fail(CO_ERR_CANCELED, "nothing was done");
}
