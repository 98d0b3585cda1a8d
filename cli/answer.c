#include "cli/answer.h"

#include <stdio.h>
#include <string.h>

const char *answer_id(ProtobufCBinaryData data, char out[CO_ID_TEXT])
{
    struct co_id id = {{0}};
    if (data.len == sizeof id.b)
        memcpy(id.b, data.data, sizeof id.b);
    return co_id_format(&id, out);
}

json_t *answer_moment(uint64_t time_us)
{
    char text[WHEN_TEXT];
    return time_us ? json_string(when_format(time_us, text)) : json_null();
}

json_t *answer_lsn(lsn_t lsn)
{
    char text[LSN_TEXT];
    return json_string(lsn_format(lsn, text));
}

const char *answer_time(uint64_t time_us, char out[WHEN_TEXT])
{
    if (time_us)
        return when_format(time_us, out);
    snprintf(out, WHEN_TEXT, "-");
    return out;
}
