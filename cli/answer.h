/* answer.h - what verbs print: ids and moments (a JSON value: json.h). Each text function writes
 * `out` and returns it.
 */
#ifndef CORALLITE_CLI_ANSWER_H
#define CORALLITE_CLI_ANSWER_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "common/error.h"
#include "common/id.h"
#include "proto/lsn.h"
#include "proto/when.h"

/* An id of a message; zeros when it is none. */
const char *answer_id(ProtobufCBinaryData data, char out[CO_ID_TEXT]);
/* A moment to the microsecond, JSON null for 0. */
json_t *answer_moment(uint64_t time_us);
/* An LSN as text. */
json_t *answer_lsn(lsn_t lsn);
/* A moment for people: "2026-01-02T03:04:05.000678Z", or "-" for 0. */
const char *answer_time(uint64_t time_us, char out[WHEN_TEXT]);

#endif
