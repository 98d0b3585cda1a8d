#include "archive/s3_xml.h"

#include <stdio.h>
#include <stdlib.h>

void s3_xml_init(struct s3_xml *x, struct co_span bytes)
{
    *x = (struct s3_xml){.rest = bytes};
    if (bytes.len >= 3 && memcmp(bytes.data, "\xef\xbb\xbf", 3) == 0)
        x->rest = co_span_of(bytes.data + 3, bytes.len - 3);
}

static int bad(const char *what)
{
    return co_fail(CO_ERR_PROTOCOL, "the store's answer is no XML of the expected kind: %s", what);
}

static void skip(struct s3_xml *x, size_t n)
{
    x->rest.data += n;
    x->rest.len -= n;
}

static bool begins(const struct s3_xml *x, const char *text)
{
    size_t n = strlen(text);
    return x->rest.len >= n && memcmp(x->rest.data, text, n) == 0;
}

/* Moves behind the next `end`; false if there is none. */
static bool skip_to(struct s3_xml *x, const char *end)
{
    const uint8_t *at = x->rest.len ? memmem(x->rest.data, x->rest.len, end, strlen(end)) : NULL;
    if (!at)
        return false;
    skip(x, (size_t)(at - x->rest.data) + strlen(end));
    return true;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* -- text -----------------------------------------------------------------------------------------
 */

static int add_text(struct s3_xml *x, const void *bytes, size_t n)
{
    if (x->depth == 0) {
        for (size_t i = 0; i < n; i++)
            if (!is_space(((const uint8_t *)bytes)[i]))
                return bad("text outside of any element");
        return 0;
    }
    if (n > S3_XML_TEXT_MAX - x->text_len)
        return bad("a text that is too long");
    if (memchr(bytes, 0, n))
        return bad("a zero byte");
    memcpy(x->text + x->text_len, bytes, n);
    x->text_len += n;
    return 0;
}

static size_t put_utf8(unsigned long c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[n] | c);
    return n;
}

/* "&name;" at the rest's begin. */
static int add_entity(struct s3_xml *x)
{
    static const struct {
        const char *name;
        char c;
    } known[] = {{"lt", '<'}, {"gt", '>'}, {"amp", '&'}, {"quot", '"'}, {"apos", '\''}};
    char name[12], utf8[4], *end;
    const uint8_t *semicolon =
        memchr(x->rest.data, ';', x->rest.len < sizeof name ? x->rest.len : sizeof name);
    if (!semicolon)
        return bad("an & without its end");
    size_t n = (size_t)(semicolon - x->rest.data) - 1;
    memcpy(name, x->rest.data + 1, n);
    name[n] = 0;
    skip(x, n + 2);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0)
            return add_text(x, &known[i].c, 1);
    bool is_hex = name[0] == '#' && name[1] == 'x';
    const char *digits = name + (is_hex ? 2 : 1);
    if (name[0] != '#' || !*digits || strlen(digits) > 7 ||
        strspn(digits, is_hex ? "0123456789abcdefABCDEF" : "0123456789") != strlen(digits))
        return bad("an entity that is not known");
    unsigned long c = strtoul(digits, &end, is_hex ? 16 : 10);
    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return bad("a character that there is not");
    return add_text(x, utf8, put_utf8(c, utf8));
}

/* -- tags -----------------------------------------------------------------------------------------
 */

/* The name at the rest's begin without its name space, and where it ends. */
static int take_name(struct s3_xml *x, char name[S3_XML_NAME_MAX + 1])
{
    size_t n = 0, begin = 0;
    while (n < x->rest.len && !is_space(x->rest.data[n]) &&
           !memchr("/><=&'\"", x->rest.data[n], 7)) {
        if (x->rest.data[n] == ':')
            begin = n + 1;
        n++;
    }
    if (n == begin || n - begin > S3_XML_NAME_MAX || memchr(x->rest.data, 0, n))
        return bad("a tag without a proper name");
    memcpy(name, x->rest.data + begin, n - begin);
    name[n - begin] = 0;
    skip(x, n);
    return 0;
}

/* Passes over attributes up to '>'. *empty: it ended with "/>". */
static int skip_attributes(struct s3_xml *x, bool *empty)
{
    *empty = false;
    while (x->rest.len) {
        uint8_t c = *x->rest.data;
        skip(x, 1);
        if (c == '>')
            return 0;
        *empty = c == '/';
        if (c == '<')
            break;
        if (c == '"' || c == '\'')
            if (!skip_to(x, c == '"' ? "\"" : "'"))
                break;
    }
    return bad("a tag that does not end");
}

static int open_tag(struct s3_xml *x, bool *empty)
{
    char name[S3_XML_NAME_MAX + 1];
    int rc = take_name(x, name);
    if (rc)
        return rc;
    if (x->depth == S3_XML_DEPTH_MAX)
        return bad("elements that are nested too deep");
    if (x->depth == 0 && x->had_root)
        return bad("two documents");
    x->path_len += (size_t)snprintf(x->path + x->path_len, sizeof x->path - x->path_len, "%s%s",
                                    x->depth ? "/" : "", name);
    x->depth++;
    x->had_root = x->opened = true;
    x->text_len = 0;
    return skip_attributes(x, empty);
}

static const char *last_name(const struct s3_xml *x)
{
    const char *slash = strrchr(x->path, '/');
    return slash ? slash + 1 : x->path;
}

/* The innermost element ends. Its path is told, and is that of its parent from the next call on. */
static int close_element(struct s3_xml *x, struct s3_xml_event *event)
{
    x->text[x->text_len] = 0;
    *event = (struct s3_xml_event){x->path, x->opened ? x->text : NULL};
    x->opened = false;
    x->depth--;
    x->path_len = x->depth ? (size_t)(last_name(x) - x->path) - 1 : 0;
    return 1;
}

static int close_tag(struct s3_xml *x, struct s3_xml_event *event)
{
    char name[S3_XML_NAME_MAX + 1];
    bool empty;
    int rc = take_name(x, name);
    if (!rc)
        rc = skip_attributes(x, &empty);
    if (rc)
        return rc;
    if (x->depth == 0 || strcmp(name, last_name(x)) != 0)
        return bad("an end without its begin");
    return close_element(x, event);
}

/* What begins with '<': 1 an element ended, 0 go on. */
static int take_markup(struct s3_xml *x, struct s3_xml_event *event)
{
    if (begins(x, "<!--"))
        return skip_to(x, "-->") ? 0 : bad("a comment that does not end");
    if (begins(x, "<?"))
        return skip_to(x, "?>") ? 0 : bad("a declaration that does not end");
    if (begins(x, "<![CDATA[")) {
        skip(x, strlen("<![CDATA["));
        const uint8_t *begin = x->rest.data;
        if (!skip_to(x, "]]>"))
            return bad("a CDATA section that does not end");
        return add_text(x, begin, (size_t)(x->rest.data - begin) - 3);
    }
    if (begins(x, "<!"))
        return bad("a document type");
    bool closing = begins(x, "</"), empty = false;
    skip(x, closing ? 2 : 1);
    if (closing)
        return close_tag(x, event);
    int rc = open_tag(x, &empty);
    return rc ? rc : empty ? close_element(x, event) : 0;
}

int s3_xml_next(struct s3_xml *x, struct s3_xml_event *event)
{
    x->path[x->path_len] = 0; /* leaves the element that was told last */
    x->text_len = 0;
    while (x->rest.len) {
        int rc;
        if (*x->rest.data == '<') {
            rc = take_markup(x, event);
        } else if (*x->rest.data == '&') {
            rc = add_entity(x);
        } else {
            size_t n = 0;
            while (n < x->rest.len && x->rest.data[n] != '<' && x->rest.data[n] != '&')
                n++;
            rc = add_text(x, x->rest.data, n);
            skip(x, n);
        }
        if (rc)
            return rc;
    }
    if (x->depth || !x->had_root)
        return bad("it ends too early");
    return 0;
}
