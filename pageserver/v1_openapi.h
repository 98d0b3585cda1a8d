/* v1_openapi.h - docs/openapi.json, as it was when this was built; served at /v1/openapi.json. */
#ifndef CORALLITE_PAGESERVER_V1_OPENAPI_H
#define CORALLITE_PAGESERVER_V1_OPENAPI_H

extern const char v1_openapi_json[], v1_openapi_json_end[];

#endif
