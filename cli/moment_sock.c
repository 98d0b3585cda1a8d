#include "cli/moment_sock.h"

#include "cli/client_sock.h"

int moment_resolve(const struct cli_args *args, const struct ref *r, Corallite__Resolved **out)
{
    Corallite__Resolve q = CORALLITE__RESOLVE__INIT;
    q.database = (char *)r->db;
    q.branch = (char *)r->branch;
    q.at = (char *)r->at;
    q.has_deadline_ms = 1;
    q.deadline_ms = CLIENT_CHANGE_TIMEOUT_MS - 2000;
    *out = NULL;
    return client_ask(args, FRAME_RESOLVE, &q.base, FRAME_RESOLVED,
                      &corallite__resolved__descriptor, out);
}
