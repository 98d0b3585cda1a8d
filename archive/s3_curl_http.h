/*
 * s3_curl_http.h - libcurl, loaded when the first archive in a bucket is opened: whoever has none
 * does not pay for its thirty libraries at each start of a process, and needs none of them.
 */
#ifndef CORALLITE_ARCHIVE_S3_CURL_HTTP_H
#define CORALLITE_ARCHIVE_S3_CURL_HTTP_H

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#undef curl_easy_setopt
#undef curl_easy_getinfo

#include "common/error.h"

struct s3_curl {
    CURL *(*easy_init)(void);
    void (*easy_cleanup)(CURL *);
    void (*easy_reset)(CURL *);
    CURLcode (*easy_setopt)(CURL *, CURLoption, ...);
    CURLcode (*easy_perform)(CURL *);
    CURLcode (*easy_getinfo)(CURL *, CURLINFO, ...);
    const char *(*easy_strerror)(CURLcode);
    struct curl_slist *(*slist_append)(struct curl_slist *, const char *);
    void (*slist_free_all)(struct curl_slist *);
};

/* The library, loaded once a process. CO_ERR_IO with a sentence if it is not there. Any thread. */
CO_MUST_CHECK int s3_curl_load(const struct s3_curl **out);

#endif
