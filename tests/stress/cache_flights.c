/* Three workers who ask for a few keys at random, all the time: who is to fetch fills an entry in pieces with pauses,
 * and stores it, or fails, or becomes private, or sends away who joined; who is led to an entry reads it, and some stop
 * early, some read slowly. Claims are cancelled, keys removed, everything purged. A body can be told from the key, and
 * from a stamp that stands in its head, so that bytes that do not belong together are seen, and so is a body that was
 * asked for before a removal which was through when its reader asked; TSan and ASan see more. In the end everybody
 * leaves, and nothing may be under way or in use. */
#include "cache_flights.h"

#include <pthread.h>
#include <unistd.h>

/* ---- reading */

static void asker_on_progress(struct entry_reader *reader);
static void asker_on_slow(struct entry_reader *reader, uint64_t below, bool others_wait);

static void asker_leave(struct asker *asker)
{
    entry_reader_leave(&asker->reader);
    if (asker->entry != NULL) {
        entry_unref(asker->entry);
        asker->entry = NULL;
    }
    later(asker->worker, &asker->timer, 3);
}

/* *Takes* a use of the entry. */
static void asker_join(struct asker *asker, struct entry *entry)
{
    struct worker *worker = asker->worker;
    asker->entry = entry;
    asker->knows_seed = false;
    asker->is_slow = one_in(worker, 6);
    asker->stops_at = one_in(worker, 5) ? random_below(worker, 50000) : UINT64_MAX;
    entry_reader_join(&asker->reader, entry, asker_on_progress);
    asker->reader.on_slow = asker_on_slow;
    worker->mirrored += entry->is_mirror;
    if (asker->is_slow) {
        later(worker, &asker->timer, 4);
    }
    asker_on_progress(&asker->reader);
}

static void go_alone(struct asker *asker)
{
    struct fill *fill = fill_create(asker, NULL);
    entry_ref(&fill->entry);
    asker_join(asker, &fill->entry);
}

static void verify(const struct asker *asker, uint64_t at, struct bytes run)
{
    for (size_t i = 0; i < run.len; i++) {
        CHECK(run.ptr[i] == body_byte(asker->key, asker->seed, at + i));
    }
}

/* Reads what is there, up to `bytes_max`. False: it has left. */
static bool asker_read(struct asker *asker, uint64_t bytes_max)
{
    struct entry_reader *reader = &asker->reader;
    while (bytes_max > 0) {
        struct hold *hold;
        struct bytes run = entry_reader_peek(reader, &hold);
        if (run.len == 0) {
            return true;
        }
        run.len = run.len < bytes_max ? run.len : (size_t)bytes_max;
        verify(asker, reader->position, run);
        bytes_max -= run.len;
        entry_reader_pass(reader, run.len);
        if (reader->position >= asker->stops_at) {
            asker_leave(asker);
            return false;
        }
    }
    return true;
}

static void asker_finish(struct asker *asker)
{
    const struct entry *entry = asker->entry;
    if (entry->state == ENTRY_FAILED) {
        CHECK(strcmp(entry->failure_text, "failed") == 0);
        CHECK(entry->failure == RESULT_RESET || entry->failure == RESULT_CANCELED);
        asker->worker->failed++;
    } else {
        CHECK(asker->reader.position == entry->body_bytes);
        asker->worker->finished++;
    }
    asker_leave(asker);
}

static void asker_go_on(struct asker *asker, uint64_t bytes_max)
{
    const struct entry *entry = asker->entry;
    bool is_over = entry->state != ENTRY_FILLING; /* looked at first: what comes after is then all there */
    if (entry->status != 0 && !asker->knows_seed) {
        CHECK(entry->head_bytes == HEAD_BYTES);
        memcpy(&asker->seed, entry->head->data, sizeof(asker->seed));
        CHECK(asker->seed >= asker->seed_min);
        asker->knows_seed = true;
    }
    if (asker->knows_seed && !asker_read(asker, bytes_max)) {
        return;
    }
    if (is_over && (entry->state == ENTRY_FAILED || entry_reader_is_level(&asker->reader))) {
        asker_finish(asker);
    }
}

static void asker_on_progress(struct entry_reader *reader)
{
    struct asker *asker = CONTAINER_OF(reader, struct asker, reader);
    if (asker->entry->is_expelled && !asker->knows_seed && asker->waiter.flight == NULL) {
        asker->worker->expelled++;
        entry_reader_leave(reader);
        entry_unref(asker->entry);
        asker->entry = NULL;
        ring_timer_cancel(asker->worker->ring, &asker->timer);
        go_alone(asker);
        return;
    }
    asker_go_on(asker, asker->is_slow ? 500 : UINT64_MAX);
}

static void asker_on_slow(struct entry_reader *reader, uint64_t below, bool others_wait)
{
    struct asker *asker = CONTAINER_OF(reader, struct asker, reader);
    CHECK(reader->position < below);
    if (others_wait) {
        asker->worker->slow++;
        asker_leave(asker);
    }
}

/* ---- asking */

static void asker_on_answer(struct flight_waiter *waiter, enum flight_answer answer)
{
    struct asker *asker = CONTAINER_OF(waiter, struct asker, waiter);
    ring_timer_cancel(asker->worker->ring, &asker->timer);
    asker->worker->answers[answer]++;
    switch (answer) {
    case FLIGHT_MINE:
        if (one_in(asker->worker, 20)) {
            flight_release(waiter->flight); /* its client has gone */
            later(asker->worker, &asker->timer, 3);
            return;
        }
        struct fill *fill = fill_create(asker, waiter->flight);
        entry_ref(&fill->entry);
        asker_join(asker, &fill->entry);
        return;
    case FLIGHT_JOINED: asker_join(asker, waiter->entry); return;
    case FLIGHT_LOOK_AGAIN: later(asker->worker, &asker->timer, 1); return;
    case FLIGHT_ALONE: go_alone(asker); return;
    }
}

/* Reads what is stored, at once or as a view. */
static void asker_hit(struct asker *asker, struct cache_object *object)
{
    asker->worker->hits++;
    asker->seed = object->cost_ns;
    CHECK(asker->seed >= asker->seed_min);
    struct entry *view = one_in(asker->worker, 2) ? cache_view(asker->worker->core, object) : NULL;
    if (view != NULL) {
        asker_join(asker, view);
        asker->knows_seed = true;
        if (asker->entry != NULL) {
            asker_go_on(asker, UINT64_MAX);
        }
        return;
    }
    uint64_t at = 0;
    for (struct chunk *piece = object->body; piece != NULL;
         piece = atomic_load_explicit(&piece->next, memory_order_acquire)) {
        verify(asker, at, (struct bytes){piece->data, chunk_used(piece)});
        at += chunk_used(piece);
    }
    CHECK(at == object->body_bytes);
    later(asker->worker, &asker->timer, 3);
}

static void asker_claim(struct asker *asker)
{
    struct worker *worker = asker->worker;
    char text[16];
    asker->key = (unsigned)random_below(worker, KEYS);
    struct cache_key key = key_of(worker, asker->key, text);
    asker->seed_min = atomic_load(&worker->shared->removed[asker->key]);
    struct cache_object *object = cache_find(worker->core, &key);
    worker->claims++;
    if (object != NULL && !one_in(worker, 3)) {
        asker_hit(asker, object);
        return;
    }
    uint32_t waiters_max = one_in(worker, 4) ? 3 : UINT32_MAX;
    uint8_t variant = one_in(worker, 4); /* now and then in another shape, whose flight is one of its own */
    CHECK(flight_claim(worker->core, &asker->waiter, &key, object, variant, waiters_max) == RESULT_OK);
    if (one_in(worker, 16)) {
        flight_claim_cancel(&asker->waiter);
        later(worker, &asker->timer, 1);
    } else if (one_in(worker, 8)) {
        ring_timer_set(worker->ring, &asker->timer, ring_now(worker->ring)); /* gives up soon, perhaps too late */
    }
}

static void asker_on_timer(struct ring_timer *timer)
{
    struct asker *asker = CONTAINER_OF(timer, struct asker, timer);
    struct worker *worker = asker->worker;
    if (asker->entry != NULL) { /* slow */
        later(worker, timer, 3);
        asker_go_on(asker, 1 + random_below(worker, 20000));
        return;
    }
    flight_claim_cancel(&asker->waiter);
    if (worker->claims >= CLAIMS) {
        worker->open--;
        return;
    }
    asker_claim(asker);
}

/* ---- removing */

static void removal_end(struct purging *purging)
{
    struct shared *shared = purging->worker->shared;
    for (unsigned key = purging->key_first; key < purging->key_first + purging->key_count; key++) {
        uint64_t newest = atomic_load(&shared->removed[key]);
        while (newest < purging->stamp &&
               !atomic_compare_exchange_weak(&shared->removed[key], &newest, purging->stamp)) {
        }
    }
    purging->is_under_way = false;
    purging->worker->open--;
}

static void on_purged(struct cache_purge *purge)
{
    removal_end(CONTAINER_OF(purge, struct purging, purge));
}

static void on_removed(struct cache_removal *removal)
{
    removal_end(CONTAINER_OF(removal, struct purging, removal));
}

static void remove_and_wait(struct worker *worker, struct purging *purging, unsigned number)
{
    struct cache_key key = key_of(worker, number, purging->text);
    purging->worker = worker;
    purging->is_under_way = true;
    purging->stamp = atomic_fetch_add(&worker->shared->stamp, 1) + 1;
    worker->open++;
    bool is_all = one_in(worker, 8);
    purging->key_first = is_all ? 0 : number;
    purging->key_count = is_all ? KEYS : 1;
    if (!is_all && one_in(worker, 2)) {
        purging->removal = (struct cache_removal){.key = key, .cause = SHARD_INVALIDATED, .on_done = on_removed};
        cache_remove_and_tell(worker->core, &purging->removal);
        return;
    }
    purging->purge = (struct cache_purge){
        .filter = {.kind = is_all ? SHARD_ALL : SHARD_KEY, .text = key.bytes, .cause = SHARD_PURGED},
        .on_done = on_purged};
    CHECK(cache_purge(worker->core, &purging->purge) == RESULT_OK);
}

static void remove_something(struct worker *worker)
{
    struct purging *purging = &worker->purgings[random_below(worker, PURGES)];
    unsigned number = (unsigned)random_below(worker, KEYS);
    if (one_in(worker, 3) || purging->is_under_way) {
        char text[16];
        struct cache_key key = key_of(worker, number, text);
        cache_remove(worker->core, &key, SHARD_INVALIDATED);
        return;
    }
    remove_and_wait(worker, purging, number);
}

/* ---- workers */

static void worker_on_timer(struct ring_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, timer);
    if (worker->claims < CLAIMS) {
        if (one_in(worker, 20)) {
            remove_something(worker);
        }
        if (one_in(worker, 40)) {
            usleep(4000); /* it is busy, and what is sent to it piles up */
        }
    } else if (worker->open == 0 && cache_core_is_settled(worker->core) && !worker->is_done) {
        worker->is_done = true;
        atomic_fetch_add(&worker->shared->done, 1);
    }
    if (atomic_load(&worker->shared->done) == WORKERS) {
        ring_stop(worker->ring);
        return;
    }
    ring_timer_set(worker->ring, timer, ring_now(worker->ring) + NANOS_PER_MS);
}

static void *worker_main(void *context)
{
    struct worker *worker = context;
    struct shared *shared = worker->shared;
    struct ring_options options = {.cpu = -1, .receive_buffers = 8, .group = shared->group, .index = worker->index};
    worker->ring = loop_create(&options);
    worker->core = cache_core_create(shared->cache, worker->ring);
    CHECK(worker->core != NULL);
    chunk_pool_init(&worker->pool, 0);
    atomic_fetch_add(&shared->ready, 1);
    while (atomic_load(&shared->ready) < WORKERS) {
        usleep(1000);
    }
    for (unsigned i = 0; i < ASKERS; i++) {
        struct asker *asker = &worker->askers[i];
        asker->worker = worker;
        asker->waiter.on_answer = asker_on_answer;
        ring_timer_init(&asker->timer, asker_on_timer);
        later(worker, &asker->timer, 5);
        worker->open++;
    }
    ring_timer_init(&worker->timer, worker_on_timer);
    ring_timer_set(worker->ring, &worker->timer, ring_now(worker->ring));
    ring_run(worker->ring);
    return NULL;
}

static bool worker_end(struct worker *worker)
{
    CHECK(worker->pool.used_bytes == 0 && cache_core_is_settled(worker->core));
    printf("worker %u: %u mine, %u joined (%u of others' entries), %u look again, %u alone, %u hits; "
           "%u stored, %u doomed, %u read whole, %u failed, %u expelled, %u shed, %u abandoned\n",
           worker->index, worker->answers[FLIGHT_MINE], worker->answers[FLIGHT_JOINED], worker->mirrored,
           worker->answers[FLIGHT_LOOK_AGAIN], worker->answers[FLIGHT_ALONE], worker->hits, worker->stored,
           worker->doomed, worker->finished, worker->failed, worker->expelled, worker->slow, worker->abandoned);
    bool has_seen_all = worker->answers[FLIGHT_MINE] > 0 && worker->mirrored > 0 &&
                        worker->answers[FLIGHT_LOOK_AGAIN] > 0 && worker->answers[FLIGHT_ALONE] > 0 &&
                        worker->hits > 0 && worker->stored > 0 && worker->doomed > 0 && worker->finished > 0 &&
                        worker->failed > 0 && worker->expelled > 0 && worker->abandoned > 0;
    chunk_pool_fini(&worker->pool);
    cache_core_destroy(worker->core);
    ring_destroy(worker->ring);
    return has_seen_all;
}

int main(int argc, char **argv)
{
    ring_destroy(loop_create(NULL)); /* ends the program where there is no io_uring */
    alarm(120);                      /* a message that never comes leaves somebody waiting: end in a way that is seen */
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    static struct worker workers[WORKERS];
    struct shared shared = {.group = ring_group_create(WORKERS)};
    shared.cache = cache_create(&(struct cache_options){
        .workers = WORKERS, .policy = EVICT_COST, .bytes_max = CACHE_BYTES_MAX, .object_bytes_max = OBJECT_BYTES_MAX});
    CHECK(shared.group != NULL && shared.cache != NULL);
    pthread_t threads[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.shared = &shared, .index = i, .random = seed * WORKERS + i};
        CHECK(pthread_create(&threads[i], NULL, worker_main, &workers[i]) == 0);
    }
    bool has_seen_all = true;
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        has_seen_all = worker_end(&workers[i]) && has_seen_all;
    }
    cache_destroy(shared.cache);
    ring_group_destroy(shared.group);
    return has_seen_all ? 0 : 1;
}
