#include "server/pulse.h"

#include "base/check.h"
#include "base/counter.h"
#include "ring/usage.h"
#include "server/machine_plan.h"
#include "server/observer.h"
#include "server/server.h"

enum {
    BUSY_INTERVAL_MS = 50,
    IDLE_INTERVAL_MS = 1000,
    TELL_INTERVAL_MS = 950, /* a second, or the beat just before it */
    BUSY_TURNS_PER_S = 50,  /* below it the worker is idle; its own beats are 20 of them */
};

static void set(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static void arm(struct pulse *pulse, nanos interval_ns)
{
    struct ring *ring = pulse->worker->ring;
    nanos due_ns = ring_now(ring) + interval_ns;
    set(&pulse->due_ns, due_ns);
    ring_timer_set(ring, &pulse->timer, due_ns);
}

/* ---- the schedulers ---- */

_Static_assert((int)GATE_MODEL_BYTES_MAX <= (int)SCHED_VIEW_MODEL_BYTES, "every name has room");

struct telling {
    struct worker *worker;
    struct sched_view view;
};

static void put_up(const struct gate_view *gate, void *context)
{
    struct telling *telling = context;
    struct sched_view *view = &telling->view;
    view->upstream = gate->upstream;
    view->is_plain = gate->is_plain;
    view->lent = gate->lent;
    view->model_bytes = (uint32_t)gate->model.len;
    bytes_put(view->model, gate->model);
    sched_view_fill(view, gate->admission, ring_now(telling->worker->ring));
    view->figures.counters.shed[SCHED_SHED_CLIENT_PAUSED] += gate->turned_away;
    sched_board_put(&telling->worker->board, view);
}

static void tell_schedulers(struct worker *worker, nanos now)
{
    struct telling telling;
    telling.worker = worker;
    telling.view.is_gone = false;
    sched_board_begin(&worker->board, now);
    gates_each_owned(&worker->gates, put_up, &telling);
    sched_board_end(&worker->board);
}

/* ---- beating ---- */

/* The cache follows the memory that the process may use. */
static void follow_cache(struct worker *worker)
{
    uint64_t bytes_max = worker->cache == NULL ? 0 : observer_cache_bytes(worker->server->observer);
    if (worker->cache != NULL && bytes_max != worker->pulse.cache_bytes) {
        worker->pulse.cache_bytes = bytes_max;
        cache_core_resize(worker->cache, bytes_max);
    }
}

static void on_beat(struct ring_timer *timer)
{
    struct pulse *pulse = CONTAINER_OF(timer, struct pulse, timer);
    struct worker *worker = pulse->worker;
    nanos now = ring_now(worker->ring);
    nanos due_ns = counter_load(&pulse->due_ns);
    histogram_add(&pulse->late, now > due_ns ? now - due_ns : 0);
    set(&pulse->pool_bytes, worker->pool.region_bytes);
    set(&pulse->pool_used_bytes, worker->pool.used_bytes);
    gates_set_pressure(&worker->gates, observer_pressure(worker->server->observer));
    follow_cache(worker);
    if (now - pulse->told_ns >= TELL_INTERVAL_MS * NANOS_PER_MS) {
        pulse->told_ns = now;
        tell_schedulers(worker, now);
    }
    uint64_t turns = counter_load(&ring_counters(worker->ring)->turns);
    nanos passed = now - pulse->beat_ns;
    bool is_busy = (turns - pulse->turns) * NANOS_PER_S > passed * BUSY_TURNS_PER_S;
    pulse->turns = turns;
    pulse->beat_ns = now;
    arm(pulse, (is_busy ? BUSY_INTERVAL_MS : IDLE_INTERVAL_MS) * NANOS_PER_MS);
}

void pulse_init(struct pulse *pulse, struct worker *worker)
{
    pulse->worker = worker;
    pulse->thread_id = ring_thread_id();
    pulse->beat_ns = ring_now(worker->ring);
    ring_timer_init(&pulse->timer, on_beat);
    pulse->cache_bytes = worker->server->plan->figures[MACHINE_CACHE_BYTES].value;
    set(&pulse->due_ns, NANOS_NEVER);
}

void pulse_start(struct pulse *pulse)
{
    arm(pulse, IDLE_INTERVAL_MS * NANOS_PER_MS);
}
