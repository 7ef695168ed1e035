/* The loop: submit and wait, drain the completion queue, dispatch, tasks, timers. */
#include "ring/ring.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "ring/internal.h"

/* ---- clock and random bits ---- */

static nanos read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (nanos)t.tv_sec * NANOS_PER_S + (nanos)t.tv_nsec;
}

static void ring_read_clock(struct ring *ring)
{
    ring->now_ns = read_clock(CLOCK_MONOTONIC);
    /* The wall clock is read four times a second and carried on by the monotonic one between. */
    if (ring->now_ns - ring->unix_read_ns > NANOS_PER_S / 4) {
        ring->unix_offset_ns = (int64_t)(read_clock(CLOCK_REALTIME) - ring->now_ns);
        ring->unix_read_ns = ring->now_ns;
    }
}

nanos ring_now(const struct ring *ring)
{
    return ring->now_ns;
}

int64_t ring_unix_ms(const struct ring *ring)
{
    return ((int64_t)ring->now_ns + ring->unix_offset_ns) / (int64_t)NANOS_PER_MS;
}

int64_t ring_unix_s(const struct ring *ring)
{
    return ((int64_t)ring->now_ns + ring->unix_offset_ns) / (int64_t)NANOS_PER_S;
}

void ring_entropy(void *out, size_t bytes)
{
    char *at = out;
    while (bytes > 0) {
        ssize_t got = getrandom(at, bytes, 0);
        if (got < 0 && errno != EINTR) {
            log_error("no random bits from the kernel: %s", strerror(errno));
            abort();
        }
        if (got > 0) {
            at += got;
            bytes -= (size_t)got;
        }
    }
}

static uint64_t rotate_left(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

/* xoshiro256** (Blackman and Vigna, 2018). */
uint64_t ring_random(struct ring *ring)
{
    uint64_t *s = ring->random_state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

/* ---- results ---- */

enum result ring_result_from(int negative_errno)
{
    switch (-negative_errno) {
    case 0: return RESULT_OK;
    case ECONNREFUSED: return RESULT_REFUSED;
    case ENOENT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EADDRNOTAVAIL:
    case EACCES:
    case EPERM:
    case ENOTDIR:
    case ENOSYS: return RESULT_UNREACHABLE;
    case ETIMEDOUT:
    case ETIME: return RESULT_TIMEOUT;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE: return RESULT_RESET;
    case ECANCELED: return RESULT_CANCELED;
    case EMFILE:
    case ENFILE: return RESULT_LIMIT;
    case ENOMEM:
    case ENOBUFS: return RESULT_NO_MEMORY;
    default: return RESULT_IO;
    }
}

/* ---- slots, submissions, scratch ---- */

bool ring_slot_take(struct ring *ring, void *owner, uint32_t *ret_slot)
{
    if (ring->slot_free == UINT32_MAX) {
        if (ring->slot_count == ring->slot_count_max) {
            return false;
        }
        uint32_t grown = ring->slot_count == 0 ? 256 : ring->slot_count * 2;
        grown = grown > ring->slot_count_max ? ring->slot_count_max : grown;
        struct ring_slot *slots = realloc(ring->slots, grown * sizeof(*slots));
        if (slots == NULL) {
            return false;
        }
        for (uint32_t i = ring->slot_count; i < grown; i++) {
            slots[i] = (struct ring_slot){NULL, 1, i + 1 < grown ? i + 1 : UINT32_MAX};
        }
        ring->slot_free = ring->slot_count;
        ring->slots = slots;
        ring->slot_count = grown;
    }
    uint32_t slot = ring->slot_free;
    ring->slot_free = ring->slots[slot].next_free;
    ring->slots[slot].owner = owner;
    *ret_slot = slot;
    counter_add(&ring->counters.streams, 1);
    return true;
}

void ring_slot_free(struct ring *ring, uint32_t slot)
{
    ring->slots[slot].owner = NULL;
    ring->slots[slot].generation++;
    ring->slots[slot].next_free = ring->slot_free;
    ring->slot_free = slot;
    counter_add(&ring->counters.streams, (uint64_t)-1);
}

/* The lazy sends queued so far are the kernel's. */
static void ring_lazy_submitted(struct ring *ring)
{
    struct list_node *node;
    while ((node = list_pop_front(&ring->lazy_queued)) != NULL) {
        list_push_back(&ring->lazy_submitted, node);
    }
}

/* Hands what is queued to the kernel without waiting. Scratch memory may be used anew afterwards: the
 * kernel has copied addresses, headers and vectors (IORING_FEAT_SUBMIT_STABLE). */
static void ring_submit(struct ring *ring)
{
    int submitted = io_uring_submit(&ring->uring);
    counter_add(&ring->counters.enters, 1);
    if (submitted > 0) {
        counter_add(&ring->counters.submissions, (uint64_t)submitted);
    }
    if (LIKELY(io_uring_sq_ready(&ring->uring) == 0)) {
        ring->scratch_used = 0;
        ring_lazy_submitted(ring);
    }
}

struct io_uring_sqe *ring_sqe(struct ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    while (UNLIKELY(sqe == NULL)) {
        ring_submit(ring);
        sqe = io_uring_get_sqe(&ring->uring);
    }
    return sqe;
}

void *ring_scratch(struct ring *ring, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    /* The submission that will point at it must not need an early submit itself: that would end what is given here. */
    while (UNLIKELY(ring->scratch_used + bytes > RING_SCRATCH_BYTES || io_uring_sq_space_left(&ring->uring) == 0)) {
        ring_submit(ring);
    }
    void *given = ring->scratch + ring->scratch_used;
    ring->scratch_used += bytes;
    return given;
}

/* ---- making and ending ---- */

static enum result ring_setup(struct ring *ring)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | IORING_SETUP_NO_SQARRAY,
        .cq_entries = RING_COMPLETIONS,
    };
    int status = io_uring_queue_init_params(RING_SUBMISSIONS, &ring->uring, &params);
    if (status == -EINVAL) { /* before Linux 6.6 */
        params = (struct io_uring_params){
            .flags = params.flags & ~(unsigned)IORING_SETUP_NO_SQARRAY,
            .cq_entries = RING_COMPLETIONS,
        };
        status = io_uring_queue_init_params(RING_SUBMISSIONS, &ring->uring, &params);
    }
    if (status == -EINVAL) {
        log_error("this kernel is too old: io_uring with DEFER_TASKRUN needs Linux 6.1 or newer");
        return RESULT_UNREACHABLE;
    }
    if (status == -EPERM || status == -ENOSYS) {
        log_error("io_uring is not allowed here: see the sysctl kernel.io_uring_disabled (0 allows it), "
                  "and in a container its seccomp profile");
        return RESULT_UNREACHABLE;
    }
    if (status < 0) {
        log_error("io_uring could not be set up: %s%s", strerror(-status),
                  status == -ENOMEM ? "; raise the limit on locked memory (ulimit -l)" : "");
        return status == -ENOMEM ? RESULT_NO_MEMORY : RESULT_UNREACHABLE;
    }
    io_uring_register_ring_fd(&ring->uring);
    return RESULT_OK;
}

static void ring_pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0) {
        log_warn("could not pin to cpu %d: %s; running unpinned", cpu, strerror(errno));
    }
}

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value == 0 ? fallback : value;
}

enum result ring_create(const struct ring_options *options, struct ring **ret_ring)
{
    struct ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL) {
        return RESULT_NO_MEMORY;
    }
    if (options->cpu >= 0) {
        ring_pin(options->cpu);
    }
    ring->group = options->group;
    ring->index = options->index;
    ring->slot_free = UINT32_MAX;
    ring->slot_count_max = or_default(options->streams_max, RING_STREAMS_MAX);
    ring->eventfd = -1;
    list_init(&ring->starved);
    list_init(&ring->closing);
    list_init(&ring->lazy_queued);
    list_init(&ring->lazy_submitted);
    list_init(&ring->tasks);
    list_init(&ring->mark);
    ring_entropy(ring->random_state, sizeof(ring->random_state));
    ring->random_state[0] |= 1; /* the one state the generator cannot leave is all zero */
    ring_read_clock(ring);
    ring->unix_offset_ns = (int64_t)(read_clock(CLOCK_REALTIME) - ring->now_ns);
    wheel_init(&ring->wheel, ring->now_ns);
    fiber_pool_init(ring, or_default(options->fibers_max, RING_FIBERS_MAX));

    enum result result = ring_setup(ring);
    if (result != RESULT_OK) {
        free(ring);
        return result;
    }
    ring->scratch = malloc(RING_SCRATCH_BYTES);
    ring->drained = malloc(RING_COMPLETIONS * sizeof(*ring->drained));
    result = ring->scratch == NULL || ring->drained == NULL
                 ? RESULT_NO_MEMORY
                 : buffers_init(ring, or_default(options->receive_buffers, RING_RECEIVE_BUFFERS),
                                or_default(options->receive_buffer_bytes, RING_RECEIVE_BUFFER_BYTES));
    if (result == RESULT_OK && ring->group != NULL) {
        result = mailbox_attach(ring);
    }
    if (result != RESULT_OK) {
        ring_destroy(ring);
        return result;
    }
    *ret_ring = ring;
    return RESULT_OK;
}

void ring_destroy(struct ring *ring)
{
    buffers_fini(ring);
    io_uring_queue_exit(&ring->uring);
    fiber_pool_fini(ring);
    if (ring->eventfd >= 0) {
        close(ring->eventfd);
    }
    free(ring->slots);
    free(ring->scratch);
    free(ring->drained);
    free(ring);
}

void ring_stop(struct ring *ring)
{
    ring->stopping = true;
}

void ring_set_context(struct ring *ring, void *context)
{
    ring->context = context;
}

void *ring_context(const struct ring *ring)
{
    return ring->context;
}

unsigned ring_index(const struct ring *ring)
{
    return ring->index;
}

const struct ring_counters *ring_counters(const struct ring *ring)
{
    return &ring->counters;
}

/* ---- tasks ---- */

void ring_task_init(struct ring_task *task, void (*on_run)(struct ring_task *task))
{
    list_init(&task->node);
    task->on_run = on_run;
}

void ring_defer(struct ring *ring, struct ring_task *task)
{
    if (!list_is_linked(&task->node)) {
        list_push_back(&ring->tasks, &task->node);
    }
}

void ring_task_cancel(struct ring_task *task)
{
    list_remove(&task->node);
}

/* Runs what is deferred now; what these defer in turn waits for the next turn, so that I/O is not starved. */
static void ring_run_tasks(struct ring *ring)
{
    if (list_is_empty(&ring->tasks)) {
        return;
    }
    list_push_back(&ring->tasks, &ring->mark);
    struct list_node *node;
    while ((node = list_pop_front(&ring->tasks)) != &ring->mark) {
        struct ring_task *task = CONTAINER_OF(node, struct ring_task, node);
        task->on_run(task);
    }
}

/* ---- a turn ---- */

#define WAIT_MAX_NS (3600 * NANOS_PER_S)

/* Submits and sleeps until something comes or the next timer is due. */
static void ring_enter(struct ring *ring, bool may_sleep)
{
    unsigned ready = io_uring_sq_ready(&ring->uring);
    counter_add(&ring->counters.enters, 1);
    counter_add(&ring->counters.submissions, ready);
    if (!may_sleep) {
        io_uring_submit_and_get_events(&ring->uring);
    } else {
        nanos left = WAIT_MAX_NS;
        nanos deadline = wheel_next(&ring->wheel);
        if (deadline != NANOS_NEVER) {
            left = deadline > ring->now_ns ? deadline - ring->now_ns : 0;
        }
        struct __kernel_timespec timeout = {.tv_sec = (long long)(left / NANOS_PER_S),
                                            .tv_nsec = (long long)(left % NANOS_PER_S)};
        struct io_uring_cqe *cqe;
        io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, &timeout, NULL);
    }
    if (LIKELY(io_uring_sq_ready(&ring->uring) == 0)) {
        ring->scratch_used = 0;
        ring_lazy_submitted(ring);
    }
}

static void ring_dispatch(struct ring *ring, const struct io_uring_cqe *cqe)
{
    enum ring_kind kind = (enum ring_kind)(cqe->user_data >> 56);
    uint32_t index = (uint32_t)cqe->user_data;
    uint32_t generation = (uint32_t)(cqe->user_data >> 32) & 0xffffff;
    switch (kind) {
    case RING_KIND_IGNORE:
    case RING_KIND_WAKE: return;
    case RING_KIND_EVENTFD: mailbox_on_eventfd(ring, cqe->res); return;
    case RING_KIND_WAKE_SENT: mailbox_on_wake_failed(ring, index); return;
    case RING_KIND_ACCEPT:
    case RING_KIND_RECEIVE:
    case RING_KIND_SEND:
    case RING_KIND_CONNECT:
    case RING_KIND_HANGUP: break;
    }
    CHECK(index < ring->slot_count);
    struct ring_slot *slot = &ring->slots[index];
    if (UNLIKELY(slot->owner == NULL || (slot->generation & 0xffffff) != generation)) {
        if (cqe->flags & IORING_CQE_F_BUFFER) {
            buffers_return(ring, (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT));
        }
        return;
    }
    if (kind == RING_KIND_ACCEPT) {
        listener_on_completion(ring, slot->owner, cqe->res, cqe->flags);
    } else {
        stream_on_completion(ring, slot->owner, kind, cqe->res, cqe->flags);
    }
}

static bool is_send(const struct io_uring_cqe *cqe)
{
    return cqe->user_data >> 56 == RING_KIND_SEND;
}

/* Empties the completion queue into ring->drained, so that its places are free for what the callbacks cause. Sends are
 * dispatched from there at once: when the failures among them are known, the lazy ones that are left have succeeded,
 * and all owners are free to send again before they hear of what has been received. */
static void ring_drain(struct ring *ring)
{
    unsigned first_new = ring->drained_count;
    unsigned send_count = 0;
    unsigned taken = 0;
    unsigned head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&ring->uring, head, cqe)
    {
        if (UNLIKELY(ring->drained_count == RING_COMPLETIONS)) {
            break;
        }
        send_count += is_send(cqe);
        ring->drained[ring->drained_count++] = *cqe;
        taken++;
    }
    io_uring_cq_advance(&ring->uring, taken);
    counter_add(&ring->counters.completions, taken);
    bool is_all = ring->drained_count < RING_COMPLETIONS;
    if (UNLIKELY(io_uring_cq_has_overflow(&ring->uring))) {
        counter_add(&ring->counters.overflows, 1);
        is_all = false; /* the kernel keeps some back until the next enter */
    }
    for (unsigned i = first_new; send_count > 0; i++) {
        if (is_send(&ring->drained[i])) {
            send_count--;
            ring_dispatch(ring, &ring->drained[i]);
        }
    }
    if (is_all) {
        stream_settle_sends(ring);
    }
}

/* Dispatches what was drained, but for sends, up to a bound, so that timers and tasks get their turn. */
static void ring_dispatch_drained(struct ring *ring)
{
    unsigned count = ring->drained_count < RING_DISPATCH_MAX ? ring->drained_count : RING_DISPATCH_MAX;
    for (unsigned i = 0; i < count; i++) {
        if (!is_send(&ring->drained[i])) {
            ring_dispatch(ring, &ring->drained[i]);
        }
    }
    ring->drained_count -= count;
    if (UNLIKELY(ring->drained_count > 0)) {
        memmove(ring->drained, ring->drained + count, ring->drained_count * sizeof(*ring->drained));
    }
    if (ring->buffers_returned > 0) {
        io_uring_buf_ring_advance(ring->buffer_ring, (int)ring->buffers_returned);
        ring->buffers_returned = 0;
    }
}

static void ring_enter_hooked(struct ring *ring, bool may_sleep)
{
    const struct ring_hooks *hooks = &ring->hooks;
    if (may_sleep && hooks->on_sleep != NULL) {
        hooks->on_sleep(hooks->context);
        ring_enter(ring, true);
        hooks->on_awake(hooks->context);
    } else {
        ring_enter(ring, may_sleep);
    }
}

void ring_set_hooks(struct ring *ring, const struct ring_hooks *hooks)
{
    ring->hooks = hooks != NULL ? *hooks : (struct ring_hooks){0};
}

void ring_run(struct ring *ring)
{
    while (!ring->stopping) {
        if (ring->hooks.on_turn != NULL) {
            ring->hooks.on_turn(ring->hooks.context);
        }
        bool may_sleep = ring->drained_count == 0 && !ring->is_hurried && list_is_empty(&ring->tasks) &&
                         list_is_empty(&ring->closing);
        if (may_sleep && ring->group != NULL) {
            may_sleep = mailbox_prepare_sleep(ring);
        }
        ring->is_hurried = false;
        ring_enter_hooked(ring, may_sleep);
        if (ring->group != NULL) {
            mailbox_awake(ring);
        }
        ring_read_clock(ring);
        counter_add(&ring->counters.turns, 1);
        ring_drain(ring);
        ring_dispatch_drained(ring);
        if (ring->group != NULL) {
            mailbox_deliver(ring);
            mailbox_flush(ring);
        }
        wheel_advance(ring, ring->now_ns);
        ring_run_tasks(ring);
        stream_finish_closing(ring);
        stream_feed_starved(ring);
    }
    ring_submit(ring); /* the last closes: a peer may wait for the FIN */
}
