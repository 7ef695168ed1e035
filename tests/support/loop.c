#include "loop.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "ring/internal.h"

struct watch {
    struct ring *ring;
    struct ring_timer timer;
    bool (*done)(void *context);
    void *context;
    nanos until_ns;
    bool is_done;
};

struct ring *loop_create(const struct ring_options *options)
{
    static const struct ring_options defaults = {.cpu = -1, .receive_buffers = 64};
    struct ring *ring = NULL;
    enum result result = RESULT_NO_MEMORY;
    /* The kernel gives back what a user's rings had locked a while after they have gone. */
    for (unsigned tries = 0; result == RESULT_NO_MEMORY && tries < 50; tries++) {
        usleep(tries == 0 ? 0 : 100 * 1000);
        result = ring_create(options == NULL ? &defaults : options, &ring);
    }
    if (result == RESULT_UNREACHABLE) {
        exit(77);
    }
    CHECK(result == RESULT_OK);
    return ring;
}

static void watch_on_timer(struct ring_timer *timer)
{
    struct watch *watch = CONTAINER_OF(timer, struct watch, timer);
    watch->is_done = watch->done(watch->context);
    if (watch->is_done || ring_now(watch->ring) >= watch->until_ns) {
        ring_stop(watch->ring);
    } else {
        ring_timer_set(watch->ring, timer, ring_now(watch->ring) + NANOS_PER_MS);
    }
}

static bool turn(struct ring *ring, bool (*done)(void *context), void *context, nanos ms)
{
    struct watch watch = {.ring = ring, .done = done, .context = context};
    ring_timer_init(&watch.timer, watch_on_timer);
    /* The clock may be old: this loop has not turned for a while. */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    watch.until_ns = (nanos)now.tv_sec * NANOS_PER_S + (nanos)now.tv_nsec + ms * NANOS_PER_MS;
    ring_timer_set(ring, &watch.timer, ring_now(ring));
    ring->stopping = false;
    ring_run(ring);
    return watch.is_done;
}

bool loop_until(struct ring *ring, bool (*done)(void *context), void *context)
{
    return turn(ring, done, context, LOOP_PATIENCE_MS);
}

static bool is_true(void *context)
{
    return *(const bool *)context;
}

bool loop_until_true(struct ring *ring, const bool *flag)
{
    return loop_until(ring, is_true, (void *)(uintptr_t)flag);
}

struct counting {
    const unsigned *count;
    unsigned wanted;
};

static bool is_reached(void *context)
{
    const struct counting *counting = context;
    return *counting->count >= counting->wanted;
}

bool loop_until_count(struct ring *ring, const unsigned *count, unsigned wanted)
{
    struct counting counting = {count, wanted};
    return loop_until(ring, is_reached, &counting);
}

static bool is_never(void *context)
{
    (void)context;
    return false;
}

void loop_for_ms(struct ring *ring, unsigned ms)
{
    turn(ring, is_never, NULL, ms);
}

unsigned loop_open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir != NULL);
    unsigned count = 0;
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count - 3; /* ".", ".." and the folder itself */
}
