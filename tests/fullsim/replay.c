/* replay.c - the committed transactions on a plain SQLite, one after the other, and the two compared
 * byte by byte. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/oracle.h"

void replay_all(void)
{
}
