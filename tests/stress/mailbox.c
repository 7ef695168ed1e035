/* Workers that write to each other as fast as they can, and now and then all fall asleep; helper threads that write to
 * all of them. Every message arrives once, in order per sender, and no sleeper is left asleep. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "loop.h"
#include "ring/internal.h"

enum { WORKERS = 4, HELPERS = 3, ROUNDS = 300, BURST_MAX = 700, HELPER_LETTERS = 2000 };
enum { SENDERS = WORKERS + HELPERS };

struct letter {
    struct ring_message message;
    unsigned from;
    unsigned number;
    bool is_last;
};

struct worker {
    struct ring *ring;
    struct ring_group *group;
    unsigned index;
    unsigned round;
    unsigned sent[WORKERS];
    unsigned wanted[SENDERS];
    unsigned ended; /* senders that have said their last */
    uint64_t random;
    struct ring_timer timer;
};

static void on_deliver(struct ring *receiver, struct ring_message *message)
{
    struct letter *letter = CONTAINER_OF(message, struct letter, message);
    struct worker *worker = ring_context(receiver);
    CHECK(letter->number == worker->wanted[letter->from]);
    worker->wanted[letter->from]++;
    worker->ended += letter->is_last;
    free(letter);
    if (worker->ended == SENDERS) {
        ring_stop(receiver);
    }
}

static struct ring_message *letter_make(unsigned from, unsigned number, bool is_last)
{
    struct letter *letter = malloc(sizeof(*letter));
    CHECK(letter != NULL);
    *letter = (struct letter){.message.on_deliver = on_deliver, .from = from, .number = number, .is_last = is_last};
    return &letter->message;
}

static unsigned random_below(struct worker *worker, unsigned bound)
{
    worker->random = worker->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(worker->random >> 33) % bound;
}

static void on_timer(struct ring_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, timer);
    worker->round++;
    bool is_last = worker->round == ROUNDS;
    for (unsigned to = 0; to < WORKERS; to++) {
        /* Mostly a letter or two, sometimes more than a queue holds. */
        unsigned burst = random_below(worker, 16) == 0 ? 1 + random_below(worker, BURST_MAX) : random_below(worker, 3);
        burst += is_last;
        for (unsigned i = 0; i < burst; i++) {
            ring_post(worker->ring, to, letter_make(worker->index, worker->sent[to]++, is_last && i + 1 == burst));
        }
    }
    if (!is_last) {
        ring_timer_set(worker->ring, timer, ring_now(worker->ring) + random_below(worker, 3) * NANOS_PER_MS);
    }
}

static void *worker_main(void *context)
{
    struct worker *worker = context;
    struct ring_options options = {.cpu = -1, .receive_buffers = 8, .group = worker->group, .index = worker->index};
    worker->ring = loop_create(&options);
    ring_set_context(worker->ring, worker);
    ring_timer_init(&worker->timer, on_timer);
    ring_timer_set(worker->ring, &worker->timer, ring_now(worker->ring));
    ring_run(worker->ring);
    return NULL;
}

struct helper {
    struct ring_group *group;
    unsigned index; /* among the senders */
};

static void *helper_main(void *context)
{
    struct helper *helper = context;
    for (unsigned number = 0; number < HELPER_LETTERS; number++) {
        for (unsigned to = 0; to < WORKERS; to++) {
            ring_group_post(helper->group, to, letter_make(helper->index, number, number + 1 == HELPER_LETTERS));
        }
        if (number % 64 == 0) {
            usleep(500);
        }
    }
    return NULL;
}

int main(void)
{
    ring_destroy(loop_create(NULL)); /* ends the program where there is no io_uring */
    alarm(120);                      /* a lost wake-up leaves everybody asleep: end in a way that is seen */
    struct ring_group *group = ring_group_create(WORKERS);
    CHECK(group != NULL);
    struct worker workers[WORKERS] = {0};
    struct helper helpers[HELPERS];
    pthread_t threads[SENDERS];
    for (unsigned i = 0; i < HELPERS; i++) { /* before the workers are there */
        helpers[i] = (struct helper){group, WORKERS + i};
        CHECK(pthread_create(&threads[WORKERS + i], NULL, helper_main, &helpers[i]) == 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.group = group, .index = i, .random = i + 1};
        CHECK(pthread_create(&threads[i], NULL, worker_main, &workers[i]) == 0);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
    }
    uint64_t wakes = 0;
    unsigned letters = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        for (unsigned from = 0; from < WORKERS; from++) {
            CHECK(workers[i].wanted[from] == workers[from].sent[i]);
            letters += workers[i].wanted[from];
        }
        wakes += atomic_load(&ring_counters(workers[i].ring)->wakes);
        ring_destroy(workers[i].ring);
    }
    ring_group_destroy(group);
    printf("%u letters among workers, %u from helpers, %llu wakes\n", letters, WORKERS * HELPERS * HELPER_LETTERS,
           (unsigned long long)wakes);
    return wakes > 0 ? 0 : 1;
}
