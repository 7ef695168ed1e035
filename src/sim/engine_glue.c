/* Drives the engine by the ring's timer, and lets jobs know what becomes of their sequences. */
#include "sim/internal.h"

/* Lives through what is due, then waits for what comes next. */
static void engine_turn(struct sim *sim)
{
    engine_advance(&sim->engine, ring_now(sim->ring));
    ring_timer_set(sim->ring, &sim->engine_timer, engine_next_event_ns(&sim->engine));
}

static void on_engine_timer(struct ring_timer *timer)
{
    engine_turn(CONTAINER_OF(timer, struct sim, engine_timer));
}

static void on_engine_task(struct ring_task *task)
{
    engine_turn(CONTAINER_OF(task, struct sim, engine_task));
}

static void on_event(struct engine *engine, const struct engine_event *event, void *context)
{
    (void)engine;
    (void)context;
    struct sim_sequence *sequence = CONTAINER_OF(event->sequence, struct sim_sequence, engine);
    sequence->job->on_event(sequence->job, sequence, event);
}

void sim_glue_init(struct sim *sim)
{
    struct engine_options options = {
        .profile = &sim->options.profile,
        .time_scale_milli = sim->options.time_scale_milli,
        .prefills_side_by_side = sim->options.prefills_side_by_side,
    };
    engine_init(&sim->engine, &options, on_event, sim);
    ring_timer_init(&sim->engine_timer, on_engine_timer);
    ring_task_init(&sim->engine_task, on_engine_task);
}

void sim_glue_submit(struct sim_connection *c, struct sim_job *job)
{
    struct sim *sim = c->sim;
    job->connection = c;
    job->in_engine = true;
    c->x.job = job;
    for (unsigned i = 0; i < job->sequence_count; i++) {
        struct sim_sequence *sequence = job->sequence(job, i);
        sequence->job = job;
        enum result result = engine_submit(&sim->engine, ring_now(sim->ring), &sequence->engine);
        CHECK(result == RESULT_OK); /* its length was looked at, in words the client understands */
    }
    /* Once for all that arrive in this turn, so that they can share a step. */
    ring_defer(sim->ring, &sim->engine_task);
}

void sim_glue_drop(struct sim_connection *c)
{
    struct sim_job *job = c->x.job;
    if (job == NULL) {
        return;
    }
    c->x.job = NULL;
    for (unsigned i = 0; job->in_engine && i < job->sequence_count; i++) {
        struct sim_sequence *sequence = job->sequence(job, i);
        if (sequence->engine.state != ENGINE_SEQUENCE_OUT) {
            engine_cancel(&c->sim->engine, &sequence->engine);
            c->sim->counters.cancelled++;
        }
    }
    job->destroy(job);
}
