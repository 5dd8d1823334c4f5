/* Calls of the C library that fail, or a clock that jumps, put before a program with LD_PRELOAD.
 *
 * FAULT_PATH: part of the paths of files whose calls fail; FAULT_CALLS: of `open read write sync clock`, which;
 * FAULT_ERROR: the number they leave in errno; FAULT_AFTER: bytes that are written before `write` fails, in all.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static atomic_long written;

static int is_chosen(const char *call) {
    const char *calls = getenv("FAULT_CALLS");
    return calls && strstr(calls, call);
}

static int is_named(const char *path) {
    const char *part = getenv("FAULT_PATH");
    return part && path && strstr(path, part);
}

static int fails(const char *call, int descriptor) {
    char link[64], path[4096];
    if (!is_chosen(call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!is_named(path)) return 0;
    errno = atoi(getenv("FAULT_ERROR"));
    return 1;
}

static int fails_writing(int descriptor, size_t size) {
    const char *after = getenv("FAULT_AFTER");
    if (!fails("write", descriptor)) return 0;
    return atomic_fetch_add(&written, size) + (long)size > (after ? atol(after) : 0);
}

ssize_t read(int descriptor, void *buffer, size_t size) {
    return fails("read", descriptor) ? -1 : REAL(read)(descriptor, buffer, size);
}
ssize_t pread(int descriptor, void *buffer, size_t size, off_t offset) {
    return fails("read", descriptor) ? -1 : REAL(pread)(descriptor, buffer, size, offset);
}
ssize_t pread64(int descriptor, void *buffer, size_t size, off64_t offset) {
    return fails("read", descriptor) ? -1 : REAL(pread64)(descriptor, buffer, size, offset);
}
ssize_t readv(int descriptor, const struct iovec *parts, int count) {
    return fails("read", descriptor) ? -1 : REAL(readv)(descriptor, parts, count);
}
ssize_t write(int descriptor, const void *buffer, size_t size) {
    return fails_writing(descriptor, size) ? -1 : REAL(write)(descriptor, buffer, size);
}
ssize_t pwrite(int descriptor, const void *buffer, size_t size, off_t offset) {
    return fails_writing(descriptor, size) ? -1 : REAL(pwrite)(descriptor, buffer, size, offset);
}
ssize_t pwrite64(int descriptor, const void *buffer, size_t size, off64_t offset) {
    return fails_writing(descriptor, size) ? -1 : REAL(pwrite64)(descriptor, buffer, size, offset);
}
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    size_t size = 0;
    for (int part = 0; part < count; part++) size += parts[part].iov_len;
    return fails_writing(descriptor, size) ? -1 : REAL(writev)(descriptor, parts, count);
}
int fsync(int descriptor) {
    return fails("sync", descriptor) ? -1 : REAL(fsync)(descriptor);
}
ssize_t copy_file_range(int from, off64_t *begin, int to, off64_t *end, size_t size, unsigned flags) {
    return fails("read", from) || fails_writing(to, size) ? -1
                                                           : REAL(copy_file_range)(from, begin, to, end, size, flags);
}
ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
    return fails("read", from) || fails_writing(to, size) ? -1 : REAL(sendfile)(to, from, offset, size);
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
    return fails("read", from) || fails_writing(to, size) ? -1 : REAL(sendfile64)(to, from, offset, size);
}

static int is_refused(const char *path) {
    if (!is_chosen("open") || !is_named(path)) return 0;
    errno = atoi(getenv("FAULT_ERROR"));
    return 1;
}

#define OPEN(name)                                              \
    int name(const char *path, int flags, ...) {                \
        va_list more;                                           \
        va_start(more, flags);                                  \
        mode_t mode = va_arg(more, mode_t);                     \
        va_end(more);                                           \
        return is_refused(path) ? -1 : REAL(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

/* Three hours forward at every second call, and back at the others. */
static time_t leap(void) {
    static atomic_int calls;
    return is_chosen("clock") && atomic_fetch_add(&calls, 1) % 2 ? 3 * 3600 : 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = REAL(clock_gettime)(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += leap();
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    int failed = REAL(gettimeofday)(now, zone);
    if (!failed) now->tv_sec += leap();
    return failed;
}
time_t time(time_t *where) {
    time_t now = REAL(time)(NULL) + leap();
    if (where) *where = now;
    return now;
}
