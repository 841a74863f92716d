/*
 * Sits between a process and its disk: every system call that changes files, or reads them at
 * an offset, is trapped, is counted over all threads, and can be failed, done in part, or be the last thing the
 * process does.
 *
 * A seccomp filter traps the calls, so it does not matter whether they are made through libc. The handler's
 * own calls carry a mark in the sixth argument, which none of the trapped calls has, and pass.
 *
 * Environment variables, for the life of the process:
 *   TAMPER_WITHOUT_HOLES   fallocate does not support holes
 *   TAMPER_UNSYNCED=.seg   syncs of files with this suffix do nothing and succeed
 *   TAMPER_NAMES=FILE      each name created or removed, and each successful sync, is a line in FILE, with its
 *                          thread: "rename 4711 /the/path". The first line of a process is "start 4711 /". Calls
 *                          that create or remove directories get no faults
 * The file TAMPER_CONTROL, shared with the test, describes one fault; see `struct control`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define MARK 0x6d61726b

enum call { WRITE, SYNC_DATA, SYNC, RENAME, TRUNCATE, ALLOCATE, REMOVE, CREATE, READ, CALLS };
enum action { NOTHING, KILL, TEAR, FAIL, STALL, HALVE, INTERRUPT };

/* All fields are 64 bits wide, in the order of the machine. */
static struct control {
    uint64_t calls;   /* bits of `enum call`: those that count towards the fault; 0 while there is none */
    uint64_t at;      /* the fault happens at this call, counted from 1 */
    uint64_t through; /* and at all up to this one */
    uint64_t action;
    uint64_t error;    /* for FAIL */
    uint64_t counted;  /* calls that counted */
    uint64_t happened; /* faults made */
    uint64_t lies;     /* syncs that did nothing */
    uint64_t all[CALLS];
} own, *control = &own;

static int without_holes;
static const char *unsynced;
static int names = -1;

#if defined __x86_64__
#define ARGUMENT(uc, n) ((uc)->uc_mcontext.gregs[(const int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8}[n]])
#define RESULT(uc) ((uc)->uc_mcontext.gregs[REG_RAX])
#elif defined __aarch64__
#define ARGUMENT(uc, n) ((uc)->uc_mcontext.regs[n])
#define RESULT(uc) ((uc)->uc_mcontext.regs[0])
#endif

static long pass(long number, const long *a) {
    long result = syscall(number, a[0], a[1], a[2], a[3], a[4], MARK);
    return result == -1 ? -errno : result;
}

static enum call kind(long number) {
    switch (number) {
    case SYS_pwrite64: return WRITE;
    case SYS_fdatasync:
    case SYS_sync_file_range: return SYNC_DATA;
    case SYS_fsync: return SYNC;
    case SYS_ftruncate: return TRUNCATE;
    case SYS_fallocate: return ALLOCATE;
    case SYS_openat: return CREATE;
    case SYS_pread64: return READ;
    case SYS_unlinkat: return REMOVE;
#ifdef SYS_unlink
    case SYS_unlink: return REMOVE;
#endif
    default: return RENAME;
    }
}

static int ends_with(int fd, const char *ending) {
    char link[] = "/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0", path[512], digits[12];
    int n = 0;
    do digits[n++] = '0' + fd % 10; while (fd /= 10);
    for (char *at = link + 14; n;) *at++ = digits[--n];
    ssize_t length = readlink(link, path, sizeof path);
    ssize_t wanted = (ssize_t)strlen(ending);
    return length >= wanted && memcmp(path + length - wanted, ending, wanted) == 0;
}

/* Appends the path of a descriptor, of what is below it, or both; returns the new length. */
static size_t resolve(char *line, size_t at, size_t room, long fd, const char *path) {
    if (fd >= 0 && (!path || path[0] != '/')) {
        char link[] = "/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0", digits[12];
        int n = 0;
        do digits[n++] = '0' + fd % 10; while (fd /= 10);
        for (char *to = link + 14; n;) *to++ = digits[--n];
        ssize_t length = readlink(link, line + at, room - at);
        if (length > 0) at += length;
        if (path && at < room) line[at++] = '/';
    }
    while (path && *path && at < room) line[at++] = *path++;
    return at;
}

static void note(const char *what, long fd, const char *path) {
    char line[1200], digits[24];
    size_t at = 0;
    while (*what) line[at++] = *what++;
    line[at++] = ' ';
    long thread = syscall(SYS_gettid);
    int n = 0;
    do digits[n++] = '0' + thread % 10; while (thread /= 10);
    while (n) line[at++] = digits[--n];
    line[at++] = ' ';
    at = resolve(line, at, sizeof line - 1, fd, path);
    line[at++] = '\n';
    (void)!write(names, line, at);
}

/* What a call that succeeded has done to names. */
static void note_names(long number, const long *a, int there) {
    switch (number) {
    case SYS_fsync: note("sync", a[0], NULL); break;
    case SYS_fdatasync: note("data", a[0], NULL); break;
    case SYS_mkdirat: note("mkdir", a[0], (const char *)a[1]); break;
    case SYS_openat: if (!there) note("create", a[0], (const char *)a[1]); break;
    case SYS_unlinkat: note("remove", a[0], (const char *)a[1]); break;
    case SYS_renameat:
    case SYS_renameat2:
        note("rename", a[0], (const char *)a[1]);
        note("rename", a[2], (const char *)a[3]);
        break;
#ifdef SYS_rename
    case SYS_mkdir: note("mkdir", -1, (const char *)a[0]); break;
    case SYS_rmdir:
    case SYS_unlink: note("remove", -1, (const char *)a[0]); break;
    case SYS_rename:
        note("rename", -1, (const char *)a[0]);
        note("rename", -1, (const char *)a[1]);
        break;
#endif
    }
}

static long tamper(long number, long *a);

static int is_of_directories(long number) {
#ifdef SYS_rename
    if (number == SYS_mkdir || number == SYS_rmdir) return 1;
#endif
    return number == SYS_mkdirat;
}

static long decide(long number, long *a) {
    if (names < 0) return is_of_directories(number) ? pass(number, a) : tamper(number, a);
    int there = number == SYS_openat && faccessat((int)a[0], (const char *)a[1], F_OK, 0) == 0;
    long result = is_of_directories(number) ? pass(number, a) : tamper(number, a);
    if (result >= 0) note_names(number, a, there);
    return result;
}

static long tamper(long number, long *a) {
    enum call call = kind(number);
    if (call == ALLOCATE && without_holes) return -EOPNOTSUPP;
    if ((number == SYS_fdatasync || number == SYS_fsync) && unsynced && ends_with((int)a[0], unsynced)) {
        __atomic_add_fetch(&control->lies, 1, __ATOMIC_SEQ_CST);
        return 0;
    }
    __atomic_add_fetch(&control->all[call], 1, __ATOMIC_SEQ_CST);
    if (!(__atomic_load_n(&control->calls, __ATOMIC_SEQ_CST) >> call & 1)) return pass(number, a);
    uint64_t place = __atomic_add_fetch(&control->counted, 1, __ATOMIC_SEQ_CST);
    if (place < control->at || place > control->through) return pass(number, a);
    /* What can be tried again is not refused twice. */
    if (control->action >= HALVE && (place - control->at) % 2) return pass(number, a);
    __atomic_add_fetch(&control->happened, 1, __ATOMIC_SEQ_CST);
    /* The first half, of whole sectors if there are any: no other is written past the page cache. */
    long half = a[2] / 2 >= 512 ? a[2] / 2 / 512 * 512 : (a[2] + 1) / 2;
    switch (control->action) {
    case FAIL: return -(long)control->error;
    case HALVE:
        a[2] = half;
        return pass(number, a);
    case INTERRUPT: return number == SYS_sync_file_range ? pass(number, a) : -EINTR;
    case TEAR:
        a[2] = half;
        pass(number, a);
        /* fallthrough */
    case KILL:
        kill(getpid(), SIGKILL);
        /* fallthrough */
    case STALL:
        for (;;) pause();
    default: return pass(number, a);
    }
}

static void trapped(int signal, siginfo_t *info, void *context) {
    (void)signal;
    ucontext_t *uc = context;
    int kept = errno;
    long a[5];
    for (int n = 0; n < 5; n++) a[n] = ARGUMENT(uc, n);
    RESULT(uc) = decide(info->si_syscall, a);
    errno = kept;
}

#define FIELD(f) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, f))
#define TRAP_IF(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void fail(const char *why) {
    (void)!write(2, why, strlen(why));
    _exit(86);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TAMPER_CONTROL");
    without_holes = getenv("TAMPER_WITHOUT_HOLES") != NULL;
    unsynced = getenv("TAMPER_UNSYNCED");
    const char *list = getenv("TAMPER_NAMES");
    if (list) {
        names = open(list, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (names < 0) fail("tamper: no list of names\n");
        note("start", -1, "/");
    }
    if (path) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        void *shared = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (shared == MAP_FAILED) fail("tamper: no control\n");
        control = shared;
        close(fd);
    }
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGSYS, &action, NULL);
    struct sock_filter code[] = {
        FIELD(args[5]), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MARK, 0, 1), ALLOW, FIELD(nr),
        TRAP_IF(SYS_pwrite64), TRAP_IF(SYS_fdatasync), TRAP_IF(SYS_fsync), TRAP_IF(SYS_ftruncate),
        TRAP_IF(SYS_fallocate), TRAP_IF(SYS_unlinkat), TRAP_IF(SYS_renameat), TRAP_IF(SYS_renameat2),
        TRAP_IF(SYS_sync_file_range), TRAP_IF(SYS_pread64), TRAP_IF(SYS_mkdirat),
#ifdef SYS_rename
        TRAP_IF(SYS_rename), TRAP_IF(SYS_unlink), TRAP_IF(SYS_mkdir), TRAP_IF(SYS_rmdir),
#endif
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 1, 0), ALLOW, FIELD(args[2]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP), ALLOW,
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        fail("tamper: seccomp is not permitted\n");
}
