/* Which names of models have a gate of their own. */
#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"
#include "proxy/gate_internal.h"

/* A name that nobody has used for so long makes room for another when there are too many. */
#define FORGET_NS (60 * NANOS_PER_S)

enum { STATUS_TIMEOUT = 408, STATUS_TOO_MANY = 429 };

/* Whether there is room for a name more of this upstream, or can be made. */
static bool has_room(struct gates *gates, unsigned upstream)
{
    unsigned count = 0;
    struct gate *last = NULL;
    for (struct list_node *node = gates->models.next; node != &gates->models; node = node->next) {
        struct gate *gate = CONTAINER_OF(node, struct gate, node);
        if (gate->key.upstream == upstream) {
            count++;
            last = gate_is_idle(gate) ? gate : last;
        }
    }
    if (count < GATE_MODELS_MAX) {
        return true;
    }
    if (last == NULL || ring_now(gates->ring) - last->used_ns < FORGET_NS) {
        return false;
    }
    gate_forget(last);
    return true;
}

static bool is_name(struct bytes model)
{
    return model.len > 0 && model.len <= GATE_MODEL_BYTES_MAX;
}

static struct gate_key key_of_model(unsigned upstream, struct bytes model)
{
    const uint64_t hash = XXH3_64bits_withSeed(model.ptr, model.len, upstream);
    return (struct gate_key){.upstream = upstream, .hash = hash, .model = model};
}

unsigned gates_owner_of(const struct gates *gates, unsigned upstream, struct bytes model)
{
    const struct gate_key nameless = {.upstream = upstream};
    const struct gate_key key = is_name(model) ? key_of_model(upstream, model) : nameless;
    return gate_owner_index(gates, &key);
}

/* ---- what is known of names ---- */

/* NULL when memory is out. */
static struct gate_names *names_of(struct gates *gates, unsigned upstream)
{
    struct gate_names **names = &gates->names[upstream];
    if (*names == NULL) {
        *names = calloc(1, sizeof(**names));
    }
    return *names;
}

static struct gate_name *find_proven(struct gate_names *names, uint64_t hash)
{
    for (unsigned i = 0; i < names->count; i++) {
        if (names->proven[i].hash == hash) {
            return &names->proven[i];
        }
    }
    return NULL;
}

static bool is_over(const struct gate_trial *trial, nanos now)
{
    return trial->began_ns == 0 || now - trial->began_ns >= FORGET_NS;
}

/* The trial of a name, under way or failed within the minute; NULL: there is none. */
static struct gate_trial *find_trial(struct gate_names *names, uint64_t hash, nanos now)
{
    for (unsigned i = 0; i < GATE_TRIALS_MAX; i++) {
        if (names->trials[i].hash == hash && !is_over(&names->trials[i], now)) {
            return &names->trials[i];
        }
    }
    return NULL;
}

/* Whether it is on trial, from now on if need be. */
static bool is_tried(struct gate_names *names, uint64_t hash, nanos now)
{
    const struct gate_trial *own = find_trial(names, hash, now);
    if (own != NULL) {
        return !own->has_failed;
    }
    for (unsigned i = 0; i < GATE_TRIALS_MAX; i++) {
        if (is_over(&names->trials[i], now)) {
            names->trials[i] = (struct gate_trial){.hash = hash, .began_ns = now};
            return true;
        }
    }
    return false;
}

/* Whether a name that is not offered has its own gate all the same. */
static bool is_taken_for_one(struct gates *gates, const struct gate_key *key)
{
    struct gate_names *names = names_of(gates, key->upstream);
    nanos now = ring_now(gates->ring);
    return names != NULL && (find_proven(names, key->hash) != NULL || is_tried(names, key->hash, now));
}

bool gate_pass_is_doubtful(const struct gate_pass *pass)
{
    struct gate_names *names = pass->gate == NULL ? NULL : pass->gate->gates->names[pass->gate->key.upstream];
    if (pass->name == 0 || names == NULL || find_proven(names, pass->name) != NULL) {
        return false;
    }
    nanos now = ring_now(pass->gate->gates->ring);
    unsigned others = names->count;
    for (unsigned i = 0; i < GATE_TRIALS_MAX; i++) {
        others += names->trials[i].hash != pass->name && !is_over(&names->trials[i], now);
    }
    return others >= GATE_NAMES_MANY;
}

/* The one that was served longest ago makes room, if that is long enough. */
static void prove(struct gate_names *names, uint64_t hash, nanos now)
{
    struct gate_name *name = find_proven(names, hash);
    if (name == NULL && names->count < GATE_MODELS_MAX) {
        name = &names->proven[names->count++];
    } else if (name == NULL) {
        struct gate_name *oldest = names->proven;
        for (unsigned i = 1; i < names->count; i++) {
            oldest = names->proven[i].served_ns < oldest->served_ns ? &names->proven[i] : oldest;
        }
        name = now - oldest->served_ns >= FORGET_NS ? oldest : NULL;
    }
    if (name != NULL) {
        *name = (struct gate_name){.hash = hash, .served_ns = now};
    }
}

/* The request was wrong, perhaps in its model. */
static bool is_clients_fault(unsigned status)
{
    return status >= 400 && status < 500 && status != STATUS_TIMEOUT && status != STATUS_TOO_MANY;
}

static void name_on_answer(const struct gate_pass *pass, unsigned status)
{
    struct gates *gates = pass->gate->gates;
    struct gate_names *names = gates->names[pass->gate->key.upstream];
    nanos now = ring_now(gates->ring);
    struct gate_trial *trial = find_trial(names, pass->name, now);
    if (status >= 200 && status < 300) {
        prove(names, pass->name, now);
        if (trial != NULL) {
            *trial = (struct gate_trial){.began_ns = 0};
        }
    } else if (trial != NULL && is_clients_fault(status)) {
        trial->has_failed = true;
        pass->gate->is_unfounded = !gate_is_shared(pass->gate);
    }
}

void gate_on_answer(struct gate_pass *pass, unsigned status)
{
    if (pass->name != 0) {
        name_on_answer(pass, status);
    }
    if (pass->account != 0) {
        gate_accounts_on_answer(pass, status);
    }
}

/* ---- gates ---- */

struct gate *gates_model(struct gates *gates, unsigned upstream, struct bytes model, bool is_offered)
{
    if (!gates->options[upstream].is_enabled) {
        return NULL;
    }
    struct gate_key key;
    if (is_name(model)) {
        key = key_of_model(upstream, model);
        if (is_offered || is_taken_for_one(gates, &key)) {
            struct gate *gate = gate_find(&gates->models, &key);
            if (gate != NULL || has_room(gates, upstream)) {
                gate = gate_find_or_create(gates, &gates->models, &key);
                if (gate != NULL) {
                    gate->is_unfounded = false;
                }
                return gate;
            }
        }
    }
    key = (struct gate_key){.upstream = upstream};
    return gate_find_or_create(gates, &gates->nameless, &key);
}

bool gate_is_shared(const struct gate *gate)
{
    return !gate->key.is_plain && gate->key.model.len == 0;
}

void gate_pass_choose_model(struct gate_pass *pass, struct gates *gates, unsigned upstream, struct bytes model,
                            bool is_offered)
{
    gate_pass_choose(pass, gates_model(gates, upstream, model, is_offered));
    bool is_known = pass->gate == NULL || is_offered || !is_name(model) || gates->names[upstream] == NULL;
    pass->name = is_known ? 0 : key_of_model(upstream, model).hash;
}
