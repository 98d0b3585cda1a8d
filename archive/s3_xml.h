/*
 * s3_xml.h - the few elements of a store's answers that are needed, out of its XML. Pure, and
 * bounded: eight elements deep, 64 bytes a name, S3_XML_TEXT_MAX bytes a text. Declarations and
 * comments are passed over, attributes and name spaces ignored; a DOCTYPE, an entity beyond XML's
 * own five, or what is not nested is refused, so nothing is ever looked up or expanded.
 */
#ifndef CORALLITE_ARCHIVE_S3_XML_H
#define CORALLITE_ARCHIVE_S3_XML_H

#include <stdbool.h>

#include "common/bytes.h"

#define S3_XML_DEPTH_MAX 8
#define S3_XML_NAME_MAX  64
#define S3_XML_TEXT_MAX  4096

struct s3_xml {
    struct co_span rest;
    bool had_root, opened; /* opened: the newest tag was a start */
    unsigned depth;
    char path[S3_XML_DEPTH_MAX * (S3_XML_NAME_MAX + 1)]; /* "ListBucketResult/Contents" */
    size_t path_len;
    char text[S3_XML_TEXT_MAX + 1];
    size_t text_len;
};

/* An element that has ended. */
struct s3_xml_event {
    const char
        *path; /* with its parents: "ListBucketResult/Contents/Key". Both until the next call */
    const char *text; /* what stood in it; NULL when it had elements of its own */
};

void s3_xml_init(struct s3_xml *x, struct co_span bytes); /* borrowed as long as x is used */
/* The next element that ends: 1; 0 at the document's end; CO_ERR_PROTOCOL with a sentence. */
CO_MUST_CHECK int s3_xml_next(struct s3_xml *x, struct s3_xml_event *event);

#endif
