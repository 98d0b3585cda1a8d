/* v1_json.h - what /v1 answers, as JSON values: one shape for each schema of docs/openapi.json.
 * Pure. Each returns a new value, NULL without memory. */
#ifndef CORALLITE_PAGESERVER_V1_JSON_H
#define CORALLITE_PAGESERVER_V1_JSON_H

#include <jansson.h>

#include "common/id.h"
#include "proto/corallite.pb-c.h"
#include "proto/lsn.h"

json_t *v1_json_id(ProtobufCBinaryData id);
json_t *v1_json_lsn(lsn_t lsn);          /* null for none */
json_t *v1_json_time(uint64_t time_us);  /* null for none */
json_t *v1_json_number(uint64_t number); /* at most 2^63 - 1 */

json_t *v1_json_error(const char *code, const char *sentence);
json_t *v1_json_database(const Corallite__DbListed__Db *db);
json_t *v1_json_branch(const char *database, const Corallite__BranchListed__Branch *branch);
json_t *v1_json_moment(const Corallite__Resolved *m);
json_t *v1_json_pin(const Corallite__Pins__One *pin);
json_t *v1_json_log(const Corallite__Logged *log);
json_t *v1_json_restored(const char *database, const char *branch, const Corallite__Branched *m);
json_t *v1_json_pageserver(const Corallite__ServerStatus *s, const char *address);
/* keeper NULL: it did not answer, because of `trouble`. */
json_t *v1_json_safekeeper(const Corallite__Safekeeper *node, const Corallite__NodeStatus *status,
                           const char *trouble);
/* One timeline as a safekeeper sees it; timeline NULL: it did not tell. */
json_t *v1_json_copy(const Corallite__Safekeeper *node,
                     const Corallite__NodeStatus__PerTimeline *timeline);

#endif
