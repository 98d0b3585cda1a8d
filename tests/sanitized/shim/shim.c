/*
 * shim.c [NAME... | --filter PATTERN] - runs unit tests that were compiled against the shim of
 * Criterion: all, or those whose "suite/name" begins with a NAME, or is like the pattern; not those
 * that begin with a -NAME. Each in a child process; a line for what fails; ends with `N passed, N
 * failed, N skipped`. A binary without tests fails.
 */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <fnmatch.h>
#include <sys/wait.h>
#include <unistd.h>

/* common/error.h's, where that is linked in: most often what a check's own message would say. */
__attribute__((weak)) const char *co_sentence(void);

#define LIMIT_S 60u /* of a test, times what $SLOWER says (tests/sanitized/kinds.py) */

static struct shim_test *tests, **last = &tests;
static struct shim_suite *suites;
static int failed_checks;

void shim_add_test(struct shim_test *test)
{
    *last = test;
    last = &test->next;
}

void shim_add_suite(struct shim_suite *suite)
{
    suite->next = suites;
    suites = suite;
}

void shim_check(int good, int fatal, const char *file, int line, const char *what)
{
    if (good)
        return;
    const char *sentence = co_sentence ? co_sentence() : "";
    fprintf(stderr, "    %s:%d: %s%s%s\n", file, line, what, *sentence ? "; the last error: " : "",
            sentence);
    failed_checks++;
    if (fatal)
        _exit(1);
}

static FILE *redirected;

void cr_redirect_stdout(void)
{
    redirected = tmpfile();
    fflush(stdout);
    dup2(fileno(redirected), STDOUT_FILENO);
}

FILE *cr_get_redirected_stdout(void)
{
    fflush(stdout);
    FILE *out = fdopen(dup(fileno(redirected)), "r");
    rewind(out);
    return out;
}

static const struct shim_suite *suite_of(const struct shim_test *t)
{
    for (const struct shim_suite *s = suites; s; s = s->next)
        if (strcmp(s->name, t->suite) == 0)
            return s;
    return NULL;
}

static void run(const struct shim_test *t, const struct shim_suite *s)
{
    const char *slower = getenv("SLOWER");
    int times = slower ? atoi(slower) : 5;
    alarm(LIMIT_S * (unsigned)(times > 0 ? times : 1));
    if (s && s->options.init)
        s->options.init();
    if (t->options.init)
        t->options.init();
    t->run();
    if (t->options.fini)
        t->options.fini();
    if (s && s->options.fini)
        s->options.fini();
    exit(failed_checks ? 1 : 0);
}

static int passes(const struct shim_test *t)
{
    const struct shim_suite *s = suite_of(t);
    int status, want = t->options.signal ? t->options.signal : s ? s->options.signal : 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        run(t, s);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 0;
    if (want)
        return WIFSIGNALED(status) && WTERMSIG(status) == want;
    return WIFEXITED(status) && WEXITSTATUS(status) == t->options.exit_code;
}

static int wanted(const struct shim_test *t, int n, char **names)
{
    char full[256];
    int yes = n == 0;
    snprintf(full, sizeof full, "%s/%s", t->suite, t->name);
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], "--filter") == 0) /* as Criterion's */
            return i + 1 < n && fnmatch(names[i + 1], full, FNM_EXTMATCH) == 0;
        else if (names[i][0] == '-' && strncmp(full, names[i] + 1, strlen(names[i] + 1)) == 0)
            return 0;
        else if (strncmp(full, names[i], strlen(names[i])) == 0)
            yes = 1;
    return yes;
}

int main(int argc, char **argv)
{
    unsigned passed = 0, failed = 0, skipped = 0;
    for (struct shim_test *t = tests; t; t = t->next) {
        if (!wanted(t, argc - 1, argv + 1) || t->options.disabled) {
            skipped += t->options.disabled != 0;
        } else if (passes(t)) {
            passed++;
        } else {
            failed++;
            printf("  FAIL  %s/%s\n", t->suite, t->name);
        }
    }
    printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    return failed || !passed;
}
