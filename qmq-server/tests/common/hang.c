/* A disk whose syncs wait as long as the file named by QMQ_TEST_HANG is there. */
#include <stdlib.h>
#include <unistd.h>

static int wait_for_disk(void)
{
    const char *file = getenv("QMQ_TEST_HANG");
    while (file && access(file, F_OK) == 0)
        usleep(1000);
    return 0;
}

int fsync(int fd) { (void)fd; return wait_for_disk(); }
int fdatasync(int fd) { (void)fd; return wait_for_disk(); }
