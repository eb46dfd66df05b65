/* A disk whose every sync takes SLOW_SYNC_MICROSECONDS more, for a process that loads this first (LD_PRELOAD). Without
   any header, so that a compiler is all that it needs. */

struct timespec { long seconds, nanoseconds; };

extern long syscall(long number, ...);
extern char *getenv(const char *name);
extern long atol(const char *text);
extern int nanosleep(const struct timespec *wish, struct timespec *rest);

#if defined(__aarch64__)
enum { SYS_FSYNC = 82, SYS_FDATASYNC = 83 };
#else
enum { SYS_FSYNC = 74, SYS_FDATASYNC = 75 };
#endif

static void wait_for_the_disk(void)
{
    char *more = getenv("SLOW_SYNC_MICROSECONDS");
    struct timespec wish = { 0, more ? atol(more) * 1000 : 0 };
    nanosleep(&wish, 0);
}

int fsync(int file)
{
    wait_for_the_disk();
    return (int) syscall(SYS_FSYNC, (long) file);
}

int fdatasync(int file)
{
    wait_for_the_disk();
    return (int) syscall(SYS_FDATASYNC, (long) file);
}
