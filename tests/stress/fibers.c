/* Fibers on several workers at once: they wait for each other, for time and for mail, nest, and reuse their stacks. The
 * race detector follows every switch; what each fiber keeps on its stack must be its own when it goes on. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "loop.h"
#include "ring/internal.h"

enum { WORKERS = 3, FIBERS = 64, STEPS = 300 };

struct work;

struct strand {
    struct work *work;
    struct fiber *fiber; /* waits for a wake */
    unsigned number;
    bool is_away;               /* its letter is: only its return wakes it */
    struct ring_message letter; /* goes to the next worker and back, who writes in it meanwhile */
    unsigned home;
};

struct work {
    struct ring *ring;
    struct ring_group *group;
    unsigned index;
    unsigned running;
    unsigned wakes;
    unsigned timeouts;
    unsigned left; /* of STEPS × FIBERS fibers still to be started */
    bool is_told;
    uint64_t random;
    struct strand strands[FIBERS];
    struct ring_timer timer;
};

static pthread_mutex_t ended_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned ended;

static unsigned random_below(struct work *work, unsigned bound)
{
    work->random = work->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(work->random >> 33) % bound;
}

static void on_home(struct ring *ring, struct ring_message *message)
{
    struct strand *strand = CONTAINER_OF(message, struct strand, letter);
    CHECK(ring_index(ring) == strand->home);
    fiber_wake(strand->fiber);
}

static void on_visit(struct ring *ring, struct ring_message *message)
{
    struct strand *strand = CONTAINER_OF(message, struct strand, letter);
    message->on_deliver = on_home;
    ring_post(ring, strand->home, message);
}

/* Wakes another fiber of the same worker that waits for it, from inside this one. */
static void wake_neighbour(struct strand *strand)
{
    struct work *work = strand->work;
    struct strand *other = &work->strands[random_below(work, FIBERS)];
    if (other->fiber != NULL && !other->is_away) {
        struct fiber *fiber = other->fiber;
        other->fiber = NULL;
        work->wakes++;
        fiber_wake(fiber);
    }
}

static void wait_somehow(struct strand *strand)
{
    struct work *work = strand->work;
    struct ring *ring = work->ring;
    strand->fiber = fiber_current(ring);
    if (random_below(work, 4) == 0) {
        strand->letter.on_deliver = on_visit;
        strand->home = work->index;
        strand->is_away = true;
        ring_post(ring, (work->index + 1) % WORKERS, &strand->letter);
        CHECK(fiber_wait(ring, NANOS_NEVER) == RESULT_OK);
        strand->is_away = false;
    } else {
        nanos deadline = ring_now(ring) + random_below(work, 3) * NANOS_PER_MS;
        work->timeouts += fiber_wait(ring, deadline) == RESULT_TIMEOUT;
    }
    strand->fiber = NULL;
}

static void strand_run(void *context)
{
    struct strand *strand = context;
    struct work *work = strand->work;
    unsigned char mine[3000];
    unsigned char mark = (unsigned char)random_below(work, 256);
    memset(mine, mark, sizeof(mine));
    for (unsigned i = random_below(work, 4); i > 0; i--) {
        wait_somehow(strand);
        wake_neighbour(strand);
        for (size_t at = 0; at < sizeof(mine); at += 100) {
            CHECK(mine[at] == mark);
        }
    }
    strand->number++;
    work->running--;
}

static void on_timer(struct ring_timer *timer)
{
    struct work *work = CONTAINER_OF(timer, struct work, timer);
    for (unsigned i = 0; i < FIBERS && work->left > 0; i++) {
        struct strand *strand = &work->strands[i];
        if (strand->number % 2 == 0 && strand->fiber == NULL) {
            strand->number++;
            work->left--;
            work->running++;
            CHECK(fiber_start(work->ring, strand_run, strand));
        }
    }
    if (work->left == 0 && work->running == 0 && !work->is_told) {
        work->is_told = true; /* the others' letters may still come by: the worker goes on until all have ended */
        pthread_mutex_lock(&ended_lock);
        ended++;
        pthread_mutex_unlock(&ended_lock);
    }
    pthread_mutex_lock(&ended_lock);
    bool all_ended = ended == WORKERS;
    pthread_mutex_unlock(&ended_lock);
    if (all_ended) {
        ring_stop(work->ring);
    } else {
        ring_timer_set(work->ring, timer, ring_now(work->ring) + NANOS_PER_MS);
    }
}

static void *work_main(void *context)
{
    struct work *work = context;
    struct ring_options options = {.cpu = -1, .receive_buffers = 8, .group = work->group, .index = work->index};
    work->ring = loop_create(&options);
    for (unsigned i = 0; i < FIBERS; i++) {
        work->strands[i].work = work;
    }
    ring_timer_init(&work->timer, on_timer);
    ring_timer_set(work->ring, &work->timer, ring_now(work->ring));
    ring_run(work->ring);
    CHECK(atomic_load(&ring_counters(work->ring)->fibers) == 0);
    CHECK(work->ring->fibers.count <= FIBERS);
    return NULL;
}

int main(void)
{
    ring_destroy(loop_create(NULL));
    struct ring_group *group = ring_group_create(WORKERS);
    CHECK(group != NULL);
    static struct work works[WORKERS];
    pthread_t threads[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        works[i].group = group;
        works[i].index = i;
        works[i].left = FIBERS * STEPS / 10;
        works[i].random = i + 1;
        CHECK(pthread_create(&threads[i], NULL, work_main, &works[i]) == 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        printf("worker %u: %u nested wakes, %u timeouts\n", i, works[i].wakes, works[i].timeouts);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        ring_destroy(works[i].ring);
    }
    ring_group_destroy(group);
    return works[0].wakes > 0 && works[0].timeouts > 0 ? 0 : 1;
}
