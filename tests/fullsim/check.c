/* check.c - at the end, everything healed: each timeline through SQLite, and each page of it. */
#include "tests/fullsim/client.h"

void check_all(struct conn *c)
{
    int rc = 1;
    while (rc) {
        long long ok = client_int(c, &rc, "select integrity_check = 'ok' from "
                                          "pragma_integrity_check limit 1");
        if (!rc && ok != 1)
            violation("integrity_check does not say ok");
        if (rc)
            task_sleep(20000);
    }
    work_read(c, "at the end");
}
