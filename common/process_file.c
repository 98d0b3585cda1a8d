#include "common/process_file.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "common/metrics.h"

static struct co_metric m_build = {.name = "corallite_build_info",
                                   .help = "1, labelled with the version of this program.",
                                   .kind = CO_GAUGE,
                                   .labels = "version=\"" CO_BUILD_VERSION "\""};
static struct co_metric m_start = {.name = "process_start_time_seconds",
                                   .help = "When this process was started, since 1970.",
                                   .kind = CO_GAUGE,
                                   .micros = true};
static struct co_metric m_cpu = {.name = "process_cpu_seconds_total",
                                 .help = "Processor time used, user and system.",
                                 .kind = CO_COUNTER,
                                 .micros = true};
static struct co_metric m_resident = {.name = "process_resident_memory_bytes",
                                      .help = "Memory in use; mapped files that are in it too.",
                                      .kind = CO_GAUGE};
static struct co_metric m_open = {
    .name = "process_open_fds", .help = "File descriptors in use.", .kind = CO_GAUGE};
static struct co_metric m_most = {.name = "process_max_fds",
                                  .help = "File descriptors that there may be at most.",
                                  .kind = CO_GAUGE};

static uint64_t micros(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec;
}

static uint64_t count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t n = 0;
    if (!dir)
        return 0;
    for (const struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n - 1; /* the directory's own */
}

static void look(void)
{
    struct rusage used;
    struct rlimit files;
    unsigned long long size, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%llu %llu", &size, &resident) == 2)
        co_metric_set(&m_resident, resident * (uint64_t)sysconf(_SC_PAGESIZE));
    if (f)
        fclose(f);
    if (getrusage(RUSAGE_SELF, &used) == 0)
        co_metric_set(&m_cpu, micros(used.ru_utime) + micros(used.ru_stime));
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        co_metric_set(&m_most, files.rlim_cur);
    co_metric_set(&m_open, count_descriptors());
}

static void register_all(void)
{
    struct co_metric *all[] = {&m_build, &m_start, &m_cpu, &m_resident, &m_open, &m_most};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        co_metric_register(all[i]);
    co_metric_set(&m_build, 1);
    co_metric_set(&m_start, co_wall_us());
    co_metrics_before(look);
}

void co_process_metrics(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_all);
}

void co_process_raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

uint32_t co_process_processors(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 1 ? (uint32_t)n : 1;
}
