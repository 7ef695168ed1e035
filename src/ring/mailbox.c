/* Messages between workers.
 *
 * Each ordered pair of workers has a queue of QUEUE_SLOTS pointers: one producer, one consumer, each index
 * on its own cache line. A worker wakes another only when that one sleeps, which is Dekker's pattern:
 *
 *   sender                                  sleeper
 *   publish the message                     asleep = true
 *   fence (A)  <------- pairs with ------>  fence (B)
 *   read asleep: wake if true               look at the queues again: stay up if not empty
 *
 * Either the sender sees `asleep`, or the sleeper sees the message. */
#include "ring/mailbox.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "ring/internal.h"

enum { QUEUE_SLOTS = 256, CACHE_LINE = 64 };

struct queue {
    _Alignas(CACHE_LINE) _Atomic uint32_t tail; /* written by the sender */
    _Alignas(CACHE_LINE) _Atomic uint32_t head; /* written by the receiver */
    _Alignas(CACHE_LINE) struct ring_message *slots[QUEUE_SLOTS];
    /* The sender's own: what did not fit, oldest first. */
    struct ring_message *spill_first;
    struct ring_message *spill_last;
};

struct mailbox {
    _Alignas(CACHE_LINE) _Atomic bool asleep;
    _Atomic int ring_fd;  /* for MSG_RING; -1 until the worker has attached */
    _Atomic int eventfd;  /* for helper threads */
    pthread_mutex_t lock; /* guards the list below: helper threads only */
    struct ring_message *posted_first;
    struct ring_message *posted_last;
    _Atomic bool has_posted;
};

struct ring_group {
    unsigned count;
    struct mailbox *mailboxes; /* one per worker */
    struct queue *queues;      /* [from * count + to] */
};

struct ring_group *ring_group_create(unsigned count)
{
    struct ring_group *group = calloc(1, sizeof(*group));
    if (group == NULL) {
        return NULL;
    }
    group->count = count;
    group->mailboxes = aligned_alloc(CACHE_LINE, count * sizeof(struct mailbox));
    group->queues = aligned_alloc(CACHE_LINE, (size_t)count * count * sizeof(struct queue));
    if (group->mailboxes == NULL || group->queues == NULL) {
        free(group->mailboxes);
        free(group->queues);
        free(group);
        return NULL;
    }
    for (unsigned i = 0; i < count; i++) {
        struct mailbox *mailbox = &group->mailboxes[i];
        *mailbox = (struct mailbox){.ring_fd = -1, .eventfd = -1};
        pthread_mutex_init(&mailbox->lock, NULL);
        /* Made here, not by the worker: a helper may post before the worker has started. */
        atomic_store(&mailbox->eventfd, eventfd(0, EFD_CLOEXEC));
    }
    for (size_t i = 0; i < (size_t)count * count; i++) {
        group->queues[i] = (struct queue){.tail = 0, .head = 0};
    }
    return group;
}

void ring_group_destroy(struct ring_group *group)
{
    for (unsigned i = 0; i < group->count; i++) {
        pthread_mutex_destroy(&group->mailboxes[i].lock);
        close(atomic_load(&group->mailboxes[i].eventfd));
    }
    free(group->mailboxes);
    free(group->queues);
    free(group);
}

unsigned ring_group_count(const struct ring_group *group)
{
    return group->count;
}

static void eventfd_arm(struct ring *ring)
{
    struct io_uring_sqe *sqe = ring_sqe(ring);
    io_uring_prep_read(sqe, ring->eventfd, &ring->eventfd_value, sizeof(ring->eventfd_value), 0);
    io_uring_sqe_set_data64(sqe, ring_user_data(RING_KIND_EVENTFD, 0, 0));
}

enum result mailbox_attach(struct ring *ring)
{
    struct mailbox *mailbox = &ring->group->mailboxes[ring->index];
    int fd = atomic_load(&mailbox->eventfd);
    if (fd < 0) {
        return RESULT_LIMIT;
    }
    ring->eventfd = dup(fd);
    if (ring->eventfd < 0) {
        return RESULT_LIMIT;
    }
    atomic_store(&mailbox->ring_fd, ring->uring.ring_fd);
    eventfd_arm(ring);
    return RESULT_OK;
}

/* ---- sending ---- */

static bool queue_push(struct queue *queue, struct ring_message *message)
{
    uint32_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    /* acquire pairs with the receiver's release of head: the slot is free before it is filled again */
    if (tail - atomic_load_explicit(&queue->head, memory_order_acquire) == QUEUE_SLOTS) {
        return false;
    }
    queue->slots[tail % QUEUE_SLOTS] = message;
    /* release pairs with the receiver's acquire of tail: the message is written before it is seen */
    atomic_store_explicit(&queue->tail, tail + 1, memory_order_release);
    return true;
}

static void send_wake(struct ring *from, unsigned to)
{
    int ring_fd = atomic_load(&from->group->mailboxes[to].ring_fd);
    if (ring_fd < 0) {
        return; /* not started yet: it looks at its queues when it does */
    }
    struct io_uring_sqe *sqe = ring_sqe(from);
    io_uring_prep_msg_ring(sqe, ring_fd, 0, ring_user_data(RING_KIND_WAKE, 0, 0), 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, ring_user_data(RING_KIND_WAKE_SENT, 0, to));
    counter_add(&from->counters.wakes, 1);
}

static void wake_if_asleep(struct ring *from, unsigned to)
{
    struct mailbox *mailbox = &from->group->mailboxes[to];
    atomic_thread_fence(memory_order_seq_cst); /* (A), pairs with (B) */
    if (atomic_load_explicit(&mailbox->asleep, memory_order_relaxed) &&
        atomic_exchange_explicit(&mailbox->asleep, false, memory_order_relaxed)) {
        send_wake(from, to);
    }
}

void mailbox_on_wake_failed(struct ring *ring, uint32_t to)
{
    send_wake(ring, to); /* the target's completion queue was full: it is awake, or will be; once more */
}

void ring_post(struct ring *from, unsigned to, struct ring_message *message)
{
    struct ring_group *group = from->group;
    CHECK(group != NULL && to < group->count);
    struct queue *queue = &group->queues[(size_t)from->index * group->count + to];
    message->next = NULL;
    counter_add(&from->counters.messages, 1);
    if (queue->spill_first != NULL || !queue_push(queue, message)) {
        if (queue->spill_first == NULL) {
            queue->spill_first = message;
        } else {
            queue->spill_last->next = message;
        }
        queue->spill_last = message;
    }
    wake_if_asleep(from, to);
}

void mailbox_flush(struct ring *ring)
{
    struct ring_group *group = ring->group;
    for (unsigned to = 0; to < group->count; to++) {
        struct queue *queue = &group->queues[(size_t)ring->index * group->count + to];
        bool any = false;
        while (queue->spill_first != NULL) {
            struct ring_message *next = queue->spill_first->next;
            if (!queue_push(queue, queue->spill_first)) {
                break;
            }
            queue->spill_first = next;
            any = true;
        }
        if (any) {
            wake_if_asleep(ring, to);
        }
    }
}

void ring_group_post(struct ring_group *group, unsigned to, struct ring_message *message)
{
    struct mailbox *mailbox = &group->mailboxes[to];
    message->next = NULL;
    pthread_mutex_lock(&mailbox->lock);
    if (mailbox->posted_first == NULL) {
        mailbox->posted_first = message;
    } else {
        mailbox->posted_last->next = message;
    }
    mailbox->posted_last = message;
    atomic_store_explicit(&mailbox->has_posted, true, memory_order_release);
    pthread_mutex_unlock(&mailbox->lock);
    uint64_t one = 1;
    while (write(atomic_load(&mailbox->eventfd), &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

void mailbox_on_eventfd(struct ring *ring, int32_t res)
{
    if (res < 0 && res != -EINTR && res != -EAGAIN) {
        log_error("the worker's eventfd failed: helper threads cannot reach worker %u", ring->index);
        return;
    }
    eventfd_arm(ring);
}

/* ---- receiving ---- */

static bool queue_is_empty(struct queue *queue)
{
    return atomic_load_explicit(&queue->tail, memory_order_acquire) ==
           atomic_load_explicit(&queue->head, memory_order_relaxed);
}

bool mailbox_deliver(struct ring *ring)
{
    struct ring_group *group = ring->group;
    bool any = false;
    for (unsigned from = 0; from < group->count; from++) {
        struct queue *queue = &group->queues[(size_t)from * group->count + ring->index];
        uint32_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
        uint32_t tail = atomic_load_explicit(&queue->tail, memory_order_acquire);
        while (head != tail) {
            struct ring_message *message = queue->slots[head % QUEUE_SLOTS];
            head++;
            atomic_store_explicit(&queue->head, head, memory_order_release);
            message->on_deliver(ring, message);
            any = true;
        }
    }
    struct mailbox *mailbox = &group->mailboxes[ring->index];
    if (atomic_load_explicit(&mailbox->has_posted, memory_order_acquire)) {
        pthread_mutex_lock(&mailbox->lock);
        struct ring_message *message = mailbox->posted_first;
        mailbox->posted_first = NULL;
        atomic_store_explicit(&mailbox->has_posted, false, memory_order_relaxed);
        pthread_mutex_unlock(&mailbox->lock);
        while (message != NULL) {
            struct ring_message *next = message->next;
            message->on_deliver(ring, message);
            message = next;
            any = true;
        }
    }
    return any;
}

bool mailbox_prepare_sleep(struct ring *ring)
{
    struct ring_group *group = ring->group;
    struct mailbox *mailbox = &group->mailboxes[ring->index];
    if (group->count == 1) {
        struct queue *own = &group->queues[0];
        return queue_is_empty(own) && own->spill_first == NULL;
    }
    atomic_store_explicit(&mailbox->asleep, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* (B), pairs with (A) */
    bool empty = true;
    for (unsigned other = 0; other < group->count; other++) {
        empty = empty && queue_is_empty(&group->queues[(size_t)other * group->count + ring->index]);
        /* What this worker could not send waits for the receiver to make room: it stays up. */
        empty = empty && group->queues[(size_t)ring->index * group->count + other].spill_first == NULL;
    }
    if (!empty) {
        atomic_store_explicit(&mailbox->asleep, false, memory_order_relaxed);
    }
    return empty;
}

void mailbox_awake(struct ring *ring)
{
    struct mailbox *mailbox = &ring->group->mailboxes[ring->index];
    if (ring->group->count > 1) {
        atomic_store_explicit(&mailbox->asleep, false, memory_order_relaxed);
    }
}
