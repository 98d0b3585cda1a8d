/* v1_status_sock.c - GET /v1/status: what each daemon tells of itself. */
#include "pageserver/v1_json.h"
#include "pageserver/v1_sock.h"

static json_t *keepers(const struct v1_call *c, const Corallite__ServerStatus *s, bool *all_up)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n_safekeepers; i++) {
        const Corallite__Safekeeper *k = s->safekeepers[i];
        Corallite__NodeStatus *status = NULL;
        int rc = v1_ask_keeper(c, k, &status);
        if (rc || status->regressed)
            *all_up = false;
        json_array_append_new(list, v1_json_safekeeper(k, status, co_sentence()));
        if (status)
            corallite__node_status__free_unpacked(status, NULL);
    }
    return list;
}

int v1_status(struct v1_call *c)
{
    Corallite__ServerStatus *s = NULL;
    bool all_up = true;
    int rc = v1_ask(c, FRAME_SERVER_STATUS, NULL, FRAME_SERVER_STATUS_OK,
                    &corallite__server_status__descriptor, &s);
    if (rc)
        return rc;
    json_t *list = keepers(c, s, &all_up);
    rc = v1_reply(c, 200,
                  json_pack("{s:o,s:s,s:b,s:o,s:o}", "cluster", v1_json_id(s->cluster), "version",
                            CO_BUILD_VERSION, "all_up", (int)all_up, "pageserver",
                            v1_json_pageserver(s, c->server.address), "safekeepers", list));
    corallite__server_status__free_unpacked(s, NULL);
    return rc;
}
