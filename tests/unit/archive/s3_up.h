/* s3_up.h - the store of tests/integration/lib/s3_server.py as a child of the test; it ends with
 * it. */
#ifndef CORALLITE_TESTS_UNIT_ARCHIVE_S3_UP_H
#define CORALLITE_TESTS_UNIT_ARCHIVE_S3_UP_H

#include "archive/store.h"

/* Starts it with one option ("--conditions=ignore"; NULL none) and sets the credentials in the
 * environment. The URL has a prefix. */
void s3_up(const char *option, char url[AR_URL_MAX_BYTES]);
void s3_down(void);
/* "http://127.0.0.1:PORT" */
const char *s3_origin(void);
/* Tells it how to behave, in JSON with ' for ". */
void s3_control(const char *text);
/* How many of the requests so far hold this text. */
int s3_count(const char *text);

#endif
