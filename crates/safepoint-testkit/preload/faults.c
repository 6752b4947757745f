/* Counts, kills, fails, forges or records the file operations of one program.
 *
 * Loaded with LD_PRELOAD. It acts only in the process whose executable or argv[0] is named
 * $FAULTS_PROGRAM, and only on paths below $FAULTS_DIR (already resolved; "-shm" files are left out,
 * SQLite rebuilds them). Everything else passes through.
 *
 *   FAULTS_COUNT=FILE  two 64-bit numbers, mapped: matching calls so far, faults that fired
 *   FAULTS_ONLY=a,b    only these calls match (names as in this file: write, fsync, ...)
 *   FAULTS_AT=N        the call at which the fault happens, from 1
 *   FAULTS_KILL=       before | after | torn (half of a write is done first): SIGKILL to itself
 *   FAULTS_ERRNO=E     the call fails with E; FAULTS_FOR=M: M calls in a row do (default 1)
 *   FAULTS_LIE=1       fsync and fdatasync (of those that FAULTS_ONLY lists) claim success, do nothing and are not recorded
 *   FAULTS_NAMED=1     no file can be made without a name (O_TMPFILE): EOPNOTSUPP, as on file systems that do not have it
 *   FAULTS_SLOW=US     fsync and fdatasync take at least so many microseconds, as those of a disk do
 *   FAULTS_TRACE=FILE  append a record of every operation, and of the bytes written to descriptor 1
 *
 * Order in the trace: one mutex is held over an operation and its record. A sync has two records:
 * what was written before its begin is durable after its end. The mutex is not held in between.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(f) ({ static __typeof__(&f) next; if (!next) next = (__typeof__(&f))dlsym(RTLD_NEXT, #f); next; })

enum verdict { GO, FAIL, AFTER, TORN };
enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MKDIR, RMDIR, LINK, ACK };
struct __attribute__((packed)) head {
    uint32_t length; /* of what follows this field */
    uint8_t kind, spare;
    uint16_t first, second; /* lengths of the paths */
    uint64_t file, value;
};

static bool on, lie, named;
static useconds_t slow;
static char root[PATH_MAX];
static size_t root_length;
static const char *only;
static enum { NO_KILL, KILL_BEFORE, KILL_AFTER, KILL_TORN } kill_mode;
static uint64_t at, how_many = 1, tokens, own[2], *numbers = own;
static int fail_with, trace = -1;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static void die(void) {
    for (;;) kill(getpid(), SIGKILL);
}

static bool listed(const char *name) {
    size_t length = strlen(name);
    for (const char *p = only; p && *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == length && !memcmp(p, name, length)) return true;
    return !only;
}

/* Counts a matching call and says what is to become of it. */
static enum verdict enter(const char *name) {
    if (!listed(name)) return GO;
    uint64_t n = __atomic_add_fetch(&numbers[0], 1, __ATOMIC_SEQ_CST);
    if (fail_with && n >= at && n - at < how_many) {
        __atomic_add_fetch(&numbers[1], 1, __ATOMIC_SEQ_CST);
        errno = fail_with;
        return FAIL;
    }
    if (kill_mode == NO_KILL || n != at) return GO;
    __atomic_add_fetch(&numbers[1], 1, __ATOMIC_SEQ_CST);
    if (kill_mode == KILL_BEFORE) die();
    return kill_mode == KILL_TORN ? TORN : AFTER;
}

static bool ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcmp(text + a - b, end);
}

static bool below(const char *path) {
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]) && !ends_with(path, "-shm");
}

static bool fd_path(int fd, char *out) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    if (n > 0) out[n] = 0;
    return n > 0;
}

/* A file without a name (O_TMPFILE) shows as "#inode (deleted)" and may get one yet; other deleted files cannot. */
static bool fd_below(int fd, char *out) {
    if (!on || !fd_path(fd, out) || !below(out)) return false;
    return !ends_with(out, " (deleted)") || strrchr(out, '/')[1] == '#';
}

/* The path with its directory resolved, so that links and ".." do not hide a match. */
static bool path_below(int dir, const char *path, char *out) {
    if (!on || !path || !*path) return false;
    char whole[2 * PATH_MAX] = "", parent[PATH_MAX];
    if (*path != '/' && dir != AT_FDCWD && !fd_path(dir, whole)) return false;
    if (*path != '/' && dir == AT_FDCWD && !getcwd(whole, PATH_MAX)) return false;
    if (*path != '/') strcat(whole, "/");
    strncat(whole, path, PATH_MAX - 1);
    for (size_t n = strlen(whole); n > 1 && whole[n - 1] == '/'; n--) whole[n - 1] = 0;
    char *slash = strrchr(whole, '/');
    *slash = 0;
    int kept = errno;
    bool found = realpath(*whole ? whole : "/", parent) != NULL;
    errno = kept;
    if (!found || strlen(parent) + strlen(slash + 1) + 2 > PATH_MAX) return false;
    stpcpy(stpcpy(stpcpy(out, strcmp(parent, "/") ? parent : ""), "/"), slash + 1);
    return below(out);
}

/* Paths in the trace are relative to the root. */
static const char *relative(const char *path) {
    return path && below(path) ? path + root_length + (path[root_length] == '/') : "";
}

static void record(enum kind kind, uint64_t file, uint64_t value, const char *first, const char *second, const struct iovec *data, size_t bytes) {
    int kept = errno;
    first = relative(first), second = relative(second);
    struct head head = {0, kind, 0, strlen(first), strlen(second), file, value};
    head.length = sizeof head - sizeof head.length + head.first + head.second + bytes;
    char *flat = malloc(sizeof head + head.first + head.second + bytes), *p = flat;
    if (!flat) abort();
    p = mempcpy(p, &head, sizeof head);
    p = mempcpy(p, first, head.first);
    p = mempcpy(p, second, head.second);
    for (size_t left = bytes; left; data++) {
        size_t n = data->iov_len < left ? data->iov_len : left;
        p = mempcpy(p, data->iov_base, n);
        left -= n;
    }
    if (NEXT(write)(trace, flat, p - flat) != p - flat) abort(); /* a trace with a hole proves nothing */
    free(flat);
    errno = kept;
}

static uint64_t inode(int fd) {
    struct stat s;
    return fstat(fd, &s) ? 0 : s.st_ino;
}

static uint64_t inode_at(const char *path) {
    struct stat s;
    return lstat(path, &s) ? 0 : s.st_ino;
}

static void lock(void) {
    if (trace >= 0) pthread_mutex_lock(&order);
}

static void unlock(enum verdict verdict) {
    if (trace >= 0) pthread_mutex_unlock(&order);
    if (verdict != GO) die();
}

/* Writing. `offset` is -1 for "where the descriptor stands". */

static ssize_t put(int fd, const struct iovec *v, int count, off64_t offset) {
    return offset < 0 ? NEXT(writev)(fd, v, count) : NEXT(pwritev64)(fd, v, count, offset);
}

static ssize_t writing(const char *name, int fd, const struct iovec *v, int count, off64_t offset) {
    char path[PATH_MAX];
    bool ours = fd_below(fd, path), acknowledges = on && fd == 1 && trace >= 0;
    if (!ours && !acknowledges) return put(fd, v, count, offset);
    enum verdict verdict = ours ? enter(name) : GO;
    if (verdict == FAIL) return -1;
    lock();
    ssize_t n;
    if (verdict == TORN) {
        size_t half = 0;
        for (int i = 0; i < count; i++) half += v[i].iov_len;
        half /= 2;
        n = 0;
        for (int i = 0; i < count && half; i++) {
            struct iovec part = {v[i].iov_base, v[i].iov_len < half ? v[i].iov_len : half};
            ssize_t done = put(fd, &part, 1, offset < 0 ? -1 : offset + n);
            if (done <= 0) break;
            n += done, half -= done;
        }
    } else {
        n = put(fd, v, count, offset);
    }
    if (n > 0 && trace >= 0) {
        if (acknowledges) record(ACK, 0, 0, NULL, NULL, v, n);
        if (ours) record(WRITE, inode(fd), offset < 0 ? (uint64_t)lseek64(fd, 0, SEEK_CUR) - n : (uint64_t)offset, path, NULL, v, n);
    }
    unlock(verdict);
    return n;
}

ssize_t write(int fd, const void *p, size_t n) {
    if (!on) return NEXT(write)(fd, p, n);
    return writing("write", fd, &(struct iovec){(void *)p, n}, 1, -1);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t o) { return writing("pwrite", fd, &(struct iovec){(void *)p, n}, 1, o); }
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t o) { return writing("pwrite", fd, &(struct iovec){(void *)p, n}, 1, o); }
ssize_t writev(int fd, const struct iovec *v, int n) { return writing("write", fd, v, n, -1); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t o) { return writing("pwrite", fd, v, n, o); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t o) { return writing("pwrite", fd, v, n, o); }

/* Copies inside the kernel cannot be recorded; callers fall back to read and write. */
ssize_t copy_file_range(int in, off64_t *io, int out, off64_t *oo, size_t n, unsigned flags) {
    char path[PATH_MAX];
    if (fd_below(out, path)) return errno = ENOSYS, -1;
    return NEXT(copy_file_range)(in, io, out, oo, n, flags);
}
ssize_t sendfile64(int out, int in, off64_t *o, size_t n) {
    char path[PATH_MAX];
    if (fd_below(out, path)) return errno = EINVAL, -1;
    return NEXT(sendfile64)(out, in, o, n);
}
ssize_t sendfile(int out, int in, off_t *o, size_t n) { return sendfile64(out, in, o, n); }

/* Sizes */

static int resizing(const char *name, int fd, off64_t offset, off64_t length) {
    bool whole = offset < 0;
    char path[PATH_MAX];
    bool ours = fd_below(fd, path);
    enum verdict verdict = ours ? enter(name) : GO;
    if (verdict == FAIL) return -1;
    if (ours) lock();
    int r = whole ? NEXT(ftruncate64)(fd, length) : NEXT(fallocate64)(fd, 0, offset, length);
    struct stat s;
    if (ours && trace >= 0 && !r && !fstat(fd, &s)) record(TRUNCATE, s.st_ino, s.st_size, path, NULL, NULL, 0);
    if (ours) unlock(verdict);
    return r;
}
int ftruncate(int fd, off_t n) { return resizing("ftruncate", fd, -1, n); }
int ftruncate64(int fd, off64_t n) { return resizing("ftruncate", fd, -1, n); }
int fallocate64(int fd, int mode, off64_t o, off64_t n) {
    if (mode) return NEXT(fallocate64)(fd, mode, o, n);
    return resizing("fallocate", fd, o, n);
}
int fallocate(int fd, int mode, off_t o, off_t n) { return fallocate64(fd, mode, o, n); }
int posix_fallocate64(int fd, off64_t o, off64_t n) { return resizing("fallocate", fd, o, n) ? errno : 0; }
int posix_fallocate(int fd, off_t o, off_t n) { return posix_fallocate64(fd, o, n); }

/* Syncing */

static int syncing(const char *name, int fd, int (*next)(int)) {
    char path[PATH_MAX];
    if (!fd_below(fd, path)) return next(fd);
    if (slow) usleep(slow);
    enum verdict verdict = enter(name);
    if (verdict == FAIL) return -1;
    uint64_t token = __atomic_add_fetch(&tokens, 1, __ATOMIC_SEQ_CST);
    int r = 0;
    if (lie && listed(name)) {
        __atomic_add_fetch(&numbers[1], 1, __ATOMIC_SEQ_CST);
    } else {
        lock();
        if (trace >= 0) record(SYNC_BEGIN, inode(fd), token, path, NULL, NULL, 0);
        unlock(GO);
        r = next(fd);
        lock();
        if (trace >= 0 && !r) record(SYNC_END, inode(fd), token, path, NULL, NULL, 0);
        unlock(GO);
    }
    if (verdict != GO) die();
    return r;
}
int fsync(int fd) { return syncing("fsync", fd, NEXT(fsync)); }
int fdatasync(int fd) { return syncing("fdatasync", fd, NEXT(fdatasync)); }

/* Names. The macro holds what all of them share; `call` is the real one, `note` its record. */

#define NAMING(name, ours, call, note)            \
    bool ours_ = (ours);                          \
    enum verdict verdict = ours_ ? enter(name) : GO; \
    if (verdict == FAIL) return -1;               \
    if (ours_) lock();                            \
    int r = (call);                               \
    if (ours_ && trace >= 0 && r >= 0) { note; }  \
    if (ours_) unlock(verdict);                   \
    return r;

static int renaming(int a, const char *from, int b, const char *to, unsigned flags) {
    char p[PATH_MAX] = "", q[PATH_MAX] = "";
    bool leaves = path_below(a, from, p), arrives = path_below(b, to, q);
    NAMING("rename", leaves || arrives, flags ? NEXT(renameat2)(a, from, b, to, flags) : NEXT(renameat)(a, from, b, to),
           record(RENAME, inode_at(q), flags, p, q, NULL, 0))
}
int rename(const char *from, const char *to) { return renaming(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renaming(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return renaming(a, from, b, to, flags); }

int linkat(int a, const char *from, int b, const char *to, int flags) {
    char q[PATH_MAX];
    NAMING("link", path_below(b, to, q), NEXT(linkat)(a, from, b, to, flags), record(LINK, inode_at(q), 0, NULL, q, NULL, 0))
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int dir, const char *path, int flags) {
    char p[PATH_MAX];
    bool folder = flags & AT_REMOVEDIR;
    NAMING(folder ? "rmdir" : "unlink", path_below(dir, path, p), NEXT(unlinkat)(dir, path, flags),
           record(folder ? RMDIR : UNLINK, 0, 0, p, NULL, NULL, 0))
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode) {
    char p[PATH_MAX];
    NAMING("mkdir", path_below(dir, path, p), NEXT(mkdirat)(dir, path, mode), record(MKDIR, inode_at(p), 0, p, NULL, NULL, 0))
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

static int opening(int dir, const char *path, int flags, mode_t mode) {
    char p[PATH_MAX];
    bool nameless = (flags & O_TMPFILE) == O_TMPFILE, creates = nameless || (flags & O_CREAT);
    if (nameless && named && path_below(dir, path, p)) return errno = EOPNOTSUPP, -1;
    NAMING("open", (creates || (flags & O_TRUNC)) && path_below(dir, path, p), NEXT(openat64)(dir, path, flags, mode), {
        if (creates) record(CREATE, inode(r), nameless, p, NULL, NULL, 0);
        if (flags & O_TRUNC) record(TRUNCATE, inode(r), 0, p, NULL, NULL, 0);
    })
}
#define MODE(last) ({ va_list list; va_start(list, last); mode_t mode = last & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; va_end(list); mode; })
int open(const char *path, int flags, ...) { return opening(AT_FDCWD, path, flags, MODE(flags)); }
int open64(const char *path, int flags, ...) { return opening(AT_FDCWD, path, flags, MODE(flags)); }
int openat(int dir, const char *path, int flags, ...) { return opening(dir, path, flags, MODE(flags)); }
int openat64(int dir, const char *path, int flags, ...) { return opening(dir, path, flags, MODE(flags)); }
int creat(const char *path, mode_t mode) { return opening(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* stdio writes by a private name of `write`; a stream of our own makes it use the public one. */
static ssize_t print(void *cookie, const char *p, size_t n) {
    (void)cookie;
    ssize_t done = write(1, p, n);
    return done < 0 ? 0 : done;
}

static uint64_t number(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void refuse(const char *what) {
    dprintf(2, "faults: %s\n", what);
    _exit(99);
}

__attribute__((constructor)) static void start(void) {
    const char *program = getenv("FAULTS_PROGRAM"), *dir = getenv("FAULTS_DIR"), *file, *mode = getenv("FAULTS_KILL");
    char executable[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", executable, sizeof executable - 1);
    if (!program || !dir || n <= 0) return;
    executable[n] = 0;
    if (strcmp(basename(executable), program) && strcmp(program_invocation_short_name, program)) return;
    if (*dir != '/' || strlen(dir) >= sizeof root) refuse("FAULTS_DIR must be an absolute path");
    root_length = stpcpy(root, dir) - root;
    only = getenv("FAULTS_ONLY");
    at = number("FAULTS_AT", 0), how_many = number("FAULTS_FOR", 1);
    fail_with = number("FAULTS_ERRNO", 0), lie = number("FAULTS_LIE", 0), named = number("FAULTS_NAMED", 0), slow = number("FAULTS_SLOW", 0);
    if (mode) kill_mode = !strcmp(mode, "before") ? KILL_BEFORE : !strcmp(mode, "torn") ? KILL_TORN : KILL_AFTER;
    if ((file = getenv("FAULTS_COUNT"))) {
        int fd = NEXT(openat64)(AT_FDCWD, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || NEXT(ftruncate64)(fd, sizeof own)) refuse("cannot open FAULTS_COUNT");
        numbers = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (numbers == MAP_FAILED) refuse("cannot map FAULTS_COUNT");
        close(fd);
    }
    if ((file = getenv("FAULTS_TRACE"))) {
        int fd = NEXT(openat64)(AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        trace = fcntl(fd, F_DUPFD_CLOEXEC, 200); /* out of the way of programs that care about their numbers */
        if (trace < 0) refuse("cannot open FAULTS_TRACE");
        close(fd);
        stdout = fopencookie(NULL, "w", (cookie_io_functions_t){.write = print});
        if (!stdout) refuse("cannot replace stdout");
        setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    }
    on = true;
}
