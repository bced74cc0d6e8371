#include "net/curl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static vlm_curl table;
static bool is_open;

static void open_library(void)
{
    static const struct {
        const char *name;
        void *field;
    } functions[] = {
        {"curl_global_init", &table.global_init},   {"curl_easy_init", &table.easy_init},
        {"curl_easy_cleanup", &table.easy_cleanup}, {"curl_easy_reset", &table.easy_reset},
        {"curl_easy_setopt", &table.easy_setopt},   {"curl_easy_perform", &table.easy_perform},
        {"curl_easy_getinfo", &table.easy_getinfo}, {"curl_easy_strerror", &table.easy_strerror},
        {"curl_slist_append", &table.slist_append}, {"curl_slist_free_all", &table.slist_free_all},
    };
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *symbol = dlsym(library, functions[i].name);
        if (symbol == NULL) return;
        memcpy(functions[i].field, &symbol, sizeof symbol);
    }
    is_open = table.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

vlm_status vlm_curl_open(const vlm_curl **out, vlm_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, open_library);
    *out = &table;
    if (is_open) return VLM_OK;
    return vlm_fail(err, VLM_FAILED_PRECONDITION,
                    "libcurl.so.4 is not there: install the package libcurl4");
}
