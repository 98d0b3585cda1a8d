/* wrap.h - the C library's calls as the linker's --wrap names them, and their real ones. */
#ifndef CORALLITE_TESTS_FULLSIM_WRAP_H
#define CORALLITE_TESTS_FULLSIM_WRAP_H

#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>

#define WRAP_MUTEX(op) int __wrap_pthread_mutex_##op(pthread_mutex_t *m)
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a);
WRAP_MUTEX(destroy);
WRAP_MUTEX(lock);
WRAP_MUTEX(trylock);
WRAP_MUTEX(unlock);
int __wrap_pthread_condattr_init(pthread_condattr_t *a);
int __wrap_pthread_condattr_destroy(pthread_condattr_t *a);
int __wrap_pthread_condattr_setclock(pthread_condattr_t *a, clockid_t clock);
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *a);
int __wrap_pthread_cond_destroy(pthread_cond_t *c);
int __wrap_pthread_cond_signal(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *at);
int __wrap_sem_init(sem_t *s, int shared, unsigned value);
int __wrap_sem_destroy(sem_t *s);
int __wrap_sem_post(sem_t *s);
int __wrap_sem_clockwait(sem_t *s, clockid_t clock, const struct timespec *at);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *a, void *(*fn)(void *), void *arg);
int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_attr_init(pthread_attr_t *a);
int __wrap_pthread_attr_destroy(pthread_attr_t *a);
int __wrap_pthread_attr_setdetachstate(pthread_attr_t *a, int state);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
int __wrap_pthread_atfork(void (*a)(void), void (*b)(void), void (*c)(void));
int __wrap_pthread_once(pthread_once_t *once, void (*fn)(void));
int __wrap_pthread_key_create(pthread_key_t *key, void (*destroy)(void *));
void *__wrap_pthread_getspecific(pthread_key_t key);
int __wrap_pthread_setspecific(pthread_key_t key, const void *value);
int __wrap_clock_gettime(clockid_t which, struct timespec *out);
int __real_clock_gettime(clockid_t which, struct timespec *out);
int __wrap_usleep(unsigned us);
__attribute__((noreturn)) void __wrap_co_assert_failed(const char *text, const char *file,
                                                       int line);
int __wrap_nanosleep(const struct timespec *t, struct timespec *left);
ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags);
struct co_metric;
void __wrap_co_metric_register(struct co_metric *metric);
void __wrap_peer_metrics_register(const unsigned *types, unsigned n);

int __wrap_socket(int domain, int type, int protocol);
int __wrap_connect(int fd, const struct sockaddr *a, socklen_t len);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags);
ssize_t __wrap___recv_chk(int fd, void *data, size_t len, size_t room, int flags);
int __wrap_shutdown(int fd, int how);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockname(int fd, struct sockaddr *a, socklen_t *len);
int __wrap_getpeername(int fd, struct sockaddr *a, socklen_t *len);
int __wrap_eventfd(unsigned count, int flags);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout_ms);
int __wrap_ppoll(struct pollfd *p, nfds_t n, const struct timespec *t, const sigset_t *mask);
int __wrap___ppoll_chk(struct pollfd *p, nfds_t n, const struct timespec *t, const sigset_t *mask,
                       size_t len);
int __wrap___poll_chk(struct pollfd *p, nfds_t n, int timeout_ms, size_t len);

struct sock;
ssize_t net_read(struct sock *s, void *data, size_t len);
ssize_t net_write(struct sock *s, const void *data, size_t len);
void net_sockaddr(uint32_t host, uint16_t port, struct sockaddr_in *out);

#define CALLS(X)                                                                                   \
    X(int, openat, (int dir, const char *path, int flags, ...))                                    \
    X(int, open, (const char *path, int flags, ...))                                               \
    X(int, close, (int fd))                                                                        \
    X(ssize_t, read, (int fd, void *out, size_t len))                                              \
    X(ssize_t, write, (int fd, const void *data, size_t len))                                      \
    X(ssize_t, pread, (int fd, void *out, size_t len, off_t at))                                   \
    X(ssize_t, pwrite, (int fd, const void *data, size_t len, off_t at))                           \
    X(int, fsync, (int fd))                                                                        \
    X(int, fdatasync, (int fd))                                                                    \
    X(int, ftruncate, (int fd, off_t len))                                                         \
    X(off_t, lseek, (int fd, off_t at, int whence))                                                \
    X(int, flock, (int fd, int op))                                                                \
    X(int, fstat, (int fd, struct stat *out))                                                      \
    X(int, stat, (const char *path, struct stat *out))                                             \
    X(int, fstatat, (int dir, const char *path, struct stat *out, int flags))                      \
    X(int, statvfs, (const char *path, struct statvfs *out))                                       \
    X(int, mkdirat, (int dir, const char *path, mode_t mode))                                      \
    X(int, linkat, (int a, const char *from, int b, const char *to, int flags))                    \
    X(int, unlinkat, (int dir, const char *path, int flags))                                       \
    X(int, mkdir, (const char *path, mode_t mode))                                                 \
    X(int, rmdir, (const char *path))                                                              \
    X(int, unlink, (const char *path))                                                             \
    X(int, rename, (const char *from, const char *to))                                             \
    X(int, renameat, (int a, const char *from, int b, const char *to))                             \
    X(DIR *, opendir, (const char *path))                                                          \
    X(DIR *, fdopendir, (int fd))                                                                  \
    X(struct dirent *, readdir, (DIR * d))                                                         \
    X(int, closedir, (DIR * d))                                                                    \
    X(int, dirfd, (DIR * d))
#define X(type, name, args)                                                                        \
    type __real_##name args;                                                                       \
    type __wrap_##name args;
CALLS(X)
#undef X

#endif
