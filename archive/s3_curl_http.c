#include "archive/s3_curl_http.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static struct s3_curl library;
static char problem[300];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* ISO C has no cast from a data pointer to a function; POSIX has this way. */
static void take(void *handle, const char *name, void *out)
{
    void *address = dlsym(handle, name);
    if (!address && !problem[0])
        snprintf(problem, sizeof problem, "it lacks %s", name);
    *(void **)out = address;
}

static void load(void)
{
    CURLcode (*global_init)(long) = NULL;
    void *handle = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        snprintf(problem, sizeof problem, "%s", dlerror());
        return;
    }
    take(handle, "curl_global_init", &global_init);
    take(handle, "curl_easy_init", &library.easy_init);
    take(handle, "curl_easy_cleanup", &library.easy_cleanup);
    take(handle, "curl_easy_reset", &library.easy_reset);
    take(handle, "curl_easy_setopt", &library.easy_setopt);
    take(handle, "curl_easy_perform", &library.easy_perform);
    take(handle, "curl_easy_getinfo", &library.easy_getinfo);
    take(handle, "curl_easy_strerror", &library.easy_strerror);
    take(handle, "curl_slist_append", &library.slist_append);
    take(handle, "curl_slist_free_all", &library.slist_free_all);
    if (!problem[0] && global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        snprintf(problem, sizeof problem, "it does not start");
}

int s3_curl_load(const struct s3_curl **out)
{
    pthread_once(&once, load);
    *out = &library;
    if (problem[0])
        return co_fail(
            CO_ERR_IO,
            "an archive in a bucket needs libcurl.so.4 (Debian's libcurl4), which cannot be "
            "used: %s",
            problem);
    return 0;
}
