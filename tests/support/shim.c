/* Preloaded into netsync by tests/support/interposing.py: calls that do less than they were asked,
 * are interrupted, or see the wall clock leap. Only regular files and the wall clock are touched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

static unsigned calls;

/* Bytes that a call on a regular file may move; -1 to interrupt it; 0 to leave it alone. Python's
 * own unbuffered stderr drops what is not written at once: that is no file of ours. */
static long most(int fd, size_t count) {
    const char *wish = getenv("SHIM_SHORT");
    struct stat status;
    if (!wish || fd <= 2 || count < 2 || fstat(fd, &status) || !S_ISREG(status.st_mode)) return 0;
    unsigned call = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    if (call % 5 == 0) return -1;
    return call % 2 ? (long)(count + 1) / 2 : 0;
}

#define SHORTENED(result, name, fd, buffer, count, ...)                        \
    {                                                                          \
        REAL(name);                                                            \
        long room = most(fd, count);                                           \
        if (room < 0) { errno = EINTR; return -1; }                            \
        return real(fd, buffer, room ? (size_t)room : count, ##__VA_ARGS__);   \
    }

ssize_t read(int fd, void *buffer, size_t count) SHORTENED(ssize_t, read, fd, buffer, count)
ssize_t write(int fd, const void *buffer, size_t count) SHORTENED(ssize_t, write, fd, buffer, count)
ssize_t pread(int fd, void *buffer, size_t count, off_t at) SHORTENED(ssize_t, pread, fd, buffer, count, at)
ssize_t pwrite(int fd, const void *buffer, size_t count, off_t at) SHORTENED(ssize_t, pwrite, fd, buffer, count, at)
ssize_t pread64(int fd, void *buffer, size_t count, off64_t at) SHORTENED(ssize_t, pread64, fd, buffer, count, at)
ssize_t pwrite64(int fd, const void *buffer, size_t count, off64_t at) SHORTENED(ssize_t, pwrite64, fd, buffer, count, at)

/* One buffer at a time is all that netsync reads into. */
static ssize_t read_vector(__typeof__(&preadv) real, int fd, const struct iovec *into, int count, off_t at) {
    long room = count == 1 ? most(fd, into->iov_len) : 0;
    if (room < 0) { errno = EINTR; return -1; }
    struct iovec less = {into->iov_base, room ? (size_t)room : into->iov_len};
    return count == 1 ? real(fd, &less, 1, at) : real(fd, into, count, at);
}
ssize_t preadv(int fd, const struct iovec *into, int count, off_t at) { REAL(preadv); return read_vector(real, fd, into, count, at); }
ssize_t preadv64(int fd, const struct iovec *into, int count, off64_t at) { REAL(preadv64); return read_vector(real, fd, into, count, at); }

/* After so many looks at the wall clock it is SHIM_LEAP seconds later, or earlier. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    static unsigned looks;
    REAL(clock_gettime);
    int result = real(clock, now);
    const char *leap = getenv("SHIM_LEAP");
    if (leap && clock == CLOCK_REALTIME && __atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED) > 3)
        now->tv_sec += atol(leap);
    return result;
}
