/* A wall clock that is CLOCK_OFF_SECONDS off, for a process that loads this first (LD_PRELOAD). How long something
   takes is not touched. Debian's libfaketime 0.9.10 does: Python's sleep fails with EINVAL under it, or its waits hang.
   Without any header, so that a compiler is all that it needs. */

struct timespec { long seconds, nanoseconds; };
struct timeval { long seconds, microseconds; };

extern long syscall(long number, ...);
extern char *getenv(const char *name);
extern long atol(const char *text);

enum { REALTIME = 0, REALTIME_COARSE = 5 };
#if defined(__aarch64__)
enum { SYS_CLOCK_GETTIME = 113 };
#else
enum { SYS_CLOCK_GETTIME = 228 };
#endif

int clock_gettime(int clock, struct timespec *now)
{
    int failed = (int) syscall(SYS_CLOCK_GETTIME, (long) clock, now);
    char *off = getenv("CLOCK_OFF_SECONDS");
    if (!failed && off && (clock == REALTIME || clock == REALTIME_COARSE))
        now->seconds += atol(off);
    return failed;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec precise;
    int failed = clock_gettime(REALTIME, &precise);
    now->seconds = precise.seconds;
    now->microseconds = precise.nanoseconds / 1000;
    return failed;
}

long time(long *where)
{
    struct timespec precise;
    clock_gettime(REALTIME, &precise);
    if (where)
        *where = precise.seconds;
    return precise.seconds;
}
