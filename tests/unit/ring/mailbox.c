/* The mailbox among workers that take turns on one thread, and with threads that own no ring. The same under true
 * concurrency: tests/stress/mailbox.c. */
#include "ring/mailbox.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "loop.h"
#include "ring/internal.h"

struct letter {
    struct ring_message message;
    unsigned number;
    unsigned to;
};

static unsigned next_wanted[2]; /* by receiver */
static unsigned delivered;

static void on_deliver(struct ring *receiver, struct ring_message *message)
{
    struct letter *letter = CONTAINER_OF(message, struct letter, message);
    cr_assert_eq(ring_index(receiver), letter->to);
    cr_assert_eq(letter->number, next_wanted[letter->to]++, "in order");
    delivered++;
    free(letter);
}

static struct ring_message *letter_make(unsigned number, unsigned to)
{
    struct letter *letter = malloc(sizeof(*letter));
    *letter = (struct letter){.message.on_deliver = on_deliver, .number = number, .to = to};
    return &letter->message;
}

static struct ring *worker_make(struct ring_group *group, unsigned index)
{
    struct ring_options options = {.cpu = -1, .receive_buffers = 8, .group = group, .index = index};
    return loop_create(&options);
}

Test(mailbox, a_worker_may_write_to_itself_more_than_a_queue_holds)
{
    struct ring_group *group = ring_group_create(1);
    struct ring *ring = worker_make(group, 0);
    for (unsigned i = 0; i < 1000; i++) {
        ring_post(ring, 0, letter_make(i, 0));
    }
    cr_assert_eq(delivered, 0, "not from inside the call");
    cr_assert(loop_until_count(ring, &delivered, 1000));
    ring_destroy(ring);
    ring_group_destroy(group);
}

static struct ring *other;
static pthread_barrier_t both;

static void *other_main(void *group)
{
    other = worker_make(group, 1);
    pthread_barrier_wait(&both);
    loop_until_count(other, &delivered, 5000);
    ring_destroy(other);
    return NULL;
}

Test(mailbox, letters_spill_over_a_full_queue_and_keep_their_order)
{
    struct ring_group *group = ring_group_create(2);
    cr_assert_eq(ring_group_count(group), 2);
    struct ring *ring = worker_make(group, 0);
    for (unsigned i = 0; i < 1000; i++) {
        ring_post(ring, 1, letter_make(i, 1)); /* before the receiver exists */
    }
    pthread_t thread;
    pthread_barrier_init(&both, NULL, 2);
    cr_assert_eq(pthread_create(&thread, NULL, other_main, group), 0);
    pthread_barrier_wait(&both);
    for (unsigned i = 1000; i < 5000; i++) {
        ring_post(ring, 1, letter_make(i, 1));
    }
    loop_for_ms(ring, 1);
    while (group != NULL && __atomic_load_n(&delivered, __ATOMIC_RELAXED) < 5000) {
        loop_for_ms(ring, 1);
    }
    pthread_join(thread, NULL);
    cr_assert_eq(delivered, 5000);
    ring_destroy(ring);
    ring_group_destroy(group);
}

/* ---- helper threads ---- */

static void on_stop(struct ring *receiver, struct ring_message *message)
{
    (void)message;
    ring_stop(receiver);
}

static struct ring_message stop_message = {.on_deliver = on_stop};

static void *helper_main(void *group)
{
    usleep(20000); /* the worker sleeps by now, without any timer */
    ring_group_post(group, 0, letter_make(0, 0));
    ring_group_post(group, 0, letter_make(1, 0));
    usleep(20000);
    ring_group_post(group, 0, letter_make(2, 0));
    ring_group_post(group, 0, &stop_message);
    return NULL;
}

Test(mailbox, a_helper_thread_wakes_a_worker_that_sleeps)
{
    struct ring_group *group = ring_group_create(2);
    struct ring *ring = worker_make(group, 0);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, helper_main, group), 0);
    ring_run(ring);
    cr_assert_eq(delivered, 3);
    pthread_join(thread, NULL);
    ring_destroy(ring);
    ring_group_destroy(group);
}

Test(mailbox, what_a_helper_posts_before_the_worker_starts_is_delivered)
{
    struct ring_group *group = ring_group_create(1);
    for (unsigned i = 0; i < 600; i++) {
        ring_group_post(group, 0, letter_make(i, 0));
    }
    ring_group_post(group, 0, &stop_message);
    struct ring *ring = worker_make(group, 0);
    ring_run(ring);
    cr_assert_eq(delivered, 600);
    ring_destroy(ring);
    ring_group_destroy(group);
}

Test(mailbox, a_group_leaves_no_descriptor_behind)
{
    unsigned before = loop_open_descriptors();
    struct ring_group *group = ring_group_create(4);
    struct ring *ring = worker_make(group, 2);
    loop_for_ms(ring, 1);
    ring_destroy(ring);
    ring_group_destroy(group);
    cr_assert_eq(loop_open_descriptors(), before);
}
