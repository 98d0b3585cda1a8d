#include "s3_up.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"

static pid_t child;
static int lifeline = -1, port;
static char origin[40];

void s3_up(const char *option, char url[AR_URL_MAX_BYTES])
{
    int in[2], out[2];
    char line[20] = "";
    cr_assert(pipe(in) == 0 && pipe(out) == 0);
    child = fork();
    if (child == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[0]), close(in[1]), close(out[0]), close(out[1]);
        unsetenv("LD_PRELOAD"); /* a sanitizer's, in its runs */
        execl("/usr/bin/python3", "/usr/bin/python3", "tests/integration/lib/s3_server.py", option,
              (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    lifeline = in[1];
    for (size_t n = 0; n < sizeof line - 1 && !strchr(line, '\n'); n++)
        cr_assert_eq(read(out[0], line + n, 1), 1, "the store does not start");
    close(out[0]);
    port = atoi(line);
    cr_assert_gt(port, 0);
    co_log_set_level(CO_LOG_ERROR);
    setenv("AWS_ACCESS_KEY_ID", "AKTEST", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "se/cr+et", 1);
    unsetenv("AWS_SESSION_TOKEN");
    unsetenv("AWS_ENDPOINT_URL");
    setenv("AWS_REGION", "eu-test-1", 1);
    setenv("no_proxy", "127.0.0.1,attic.localhost", 1);
    snprintf(origin, sizeof origin, "http://127.0.0.1:%d", port);
    snprintf(url, AR_URL_MAX_BYTES, "s3://attic/some/where?endpoint=%s", origin);
}

void s3_down(void)
{
    close(lifeline);
    waitpid(child, NULL, 0);
}

const char *s3_origin(void)
{
    return origin;
}

/* A request without a signature; the answer with its head. */
static char *ask(const char *method, const char *path, const char *body)
{
    static char answer[1 << 20];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    dprintf(fd, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
            method, path, strlen(body), body);
    size_t len = 0;
    for (ssize_t n; (n = read(fd, answer + len, sizeof answer - 1 - len)) > 0;)
        len += (size_t)n;
    close(fd);
    answer[len] = 0;
    cr_assert_eq(strncmp(answer, "HTTP/1.1 200", 12), 0, "%s", answer);
    return answer;
}

void s3_control(const char *text)
{
    char json[2000];
    snprintf(json, sizeof json, "%s", text);
    for (char *p = json; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    ask("POST", "/_control", json);
}

int s3_count(const char *text)
{
    int n = 0;
    for (const char *p = ask("GET", "/_log", ""); (p = strstr(p, text)) != NULL; p += strlen(text))
        n++;
    return n;
}
