/* v1_openapi.c - the file itself, put into the program by the assembler: one source, no generator.
 */
#include "pageserver/v1_openapi.h"

__asm__(".section .rodata\n"
        ".global v1_openapi_json\n"
        ".hidden v1_openapi_json\n"
        ".global v1_openapi_json_end\n"
        ".hidden v1_openapi_json_end\n"
        "v1_openapi_json:\n"
        ".incbin \"docs/openapi.json\"\n"
        "v1_openapi_json_end:\n"
        ".byte 0\n"
        ".previous\n");
