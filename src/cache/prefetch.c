#include "cache/prefetch.h"

#include <stdlib.h>

#include "base/check.h"

enum {
    WAYS = 4,
    SUCCESSORS = 4,
    CONTEXTS_PER_TARGET =
        8, /* most requests are in a context of one and a few of two, and many have one visitor only */
    CLIENTS_PER_TARGET = 4,
    COUNT_MAX = 128, /* then all counts of the context are halved */
    WEIGHT_MAX = 255,
};

/* A count of 0 marks what is free, in all three. */

struct client {
    uint64_t id;
    uint64_t last[2]; /* the last request, and the one before; 0: none */
    nanos seen_ns;
};

struct context {
    uint64_t id;
    uint64_t successors[SUCCESSORS];
    uint8_t counts[SUCCESSORS];
    uint8_t visits;
};

struct target {
    uint64_t id;
    uint16_t bytes;
    uint8_t weight; /* how often it followed something, while it was here */
    char text[PREFETCH_TARGET_BYTES_MAX];
};

struct prefetch {
    struct prefetch_options options;
    uint64_t target_sets; /* each a power of two */
    uint64_t context_sets;
    uint64_t client_sets;
    struct target *targets;
    struct context *contexts;
    struct client *clients;
};

/* ---- life ---- */

struct prefetch *prefetch_create(const struct prefetch_options *options)
{
    const uint64_t unit = WAYS * (sizeof(struct target) + CONTEXTS_PER_TARGET * sizeof(struct context) +
                                  CLIENTS_PER_TARGET * sizeof(struct client));
    CHECK(options->memory_bytes >= PREFETCH_MEMORY_BYTES_MIN && options->support_min > 0);
    uint64_t sets = 1;
    while (sets * 2 * unit <= options->memory_bytes - sizeof(struct prefetch)) {
        sets *= 2;
    }
    struct prefetch *prefetch = calloc(1, sizeof(*prefetch));
    if (prefetch == NULL) {
        return NULL;
    }
    prefetch->options = *options;
    prefetch->target_sets = sets;
    prefetch->context_sets = sets * CONTEXTS_PER_TARGET;
    prefetch->client_sets = sets * CLIENTS_PER_TARGET;
    prefetch->targets = calloc(prefetch->target_sets * WAYS, sizeof(*prefetch->targets));
    prefetch->contexts = calloc(prefetch->context_sets * WAYS, sizeof(*prefetch->contexts));
    prefetch->clients = calloc(prefetch->client_sets * WAYS, sizeof(*prefetch->clients));
    if (prefetch->targets == NULL || prefetch->contexts == NULL || prefetch->clients == NULL) {
        prefetch_destroy(prefetch);
        return NULL;
    }
    return prefetch;
}

void prefetch_destroy(struct prefetch *prefetch)
{
    if (prefetch != NULL) {
        free(prefetch->targets);
        free(prefetch->contexts);
        free(prefetch->clients);
        free(prefetch);
    }
}

uint64_t prefetch_memory_bytes(const struct prefetch *prefetch)
{
    return sizeof(*prefetch) +
           WAYS * (prefetch->target_sets * sizeof(struct target) + prefetch->context_sets * sizeof(struct context) +
                   prefetch->client_sets * sizeof(struct client));
}

/* ---- names ---- */

/* splitmix64's finalizer: what was hashed with a secret stays so, and every bit counts. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Never 0, which stands for none. */
static uint64_t name_of(uint64_t hash)
{
    return hash == 0 ? 1 : hash;
}

static uint64_t context_of_one(uint64_t last)
{
    return name_of(mix(last + UINT64_C(0x9e3779b97f4a7c15)));
}

static uint64_t context_of_two(uint64_t before, uint64_t last)
{
    return name_of(mix(mix(before) + last));
}

/* ---- clients ---- */

static struct client *client_set(const struct prefetch *prefetch, uint64_t id)
{
    return &prefetch->clients[(mix(id) & (prefetch->client_sets - 1)) * WAYS];
}

static struct client *client_find(const struct prefetch *prefetch, uint64_t id)
{
    struct client *set = client_set(prefetch, id);
    for (unsigned i = 0; i < WAYS; i++) {
        if (set[i].last[0] != 0 && set[i].id == id) {
            return &set[i];
        }
    }
    return NULL;
}

/* In the place of the one that was seen longest ago. */
static struct client *client_take(struct prefetch *prefetch, uint64_t id)
{
    struct client *set = client_set(prefetch, id);
    struct client *oldest = set;
    for (unsigned i = 1; i < WAYS; i++) {
        if (set[i].seen_ns < oldest->seen_ns) {
            oldest = &set[i];
        }
    }
    *oldest = (struct client){.id = id};
    return oldest;
}

/* ---- contexts ---- */

static struct context *context_set(const struct prefetch *prefetch, uint64_t id)
{
    return &prefetch->contexts[(mix(id) & (prefetch->context_sets - 1)) * WAYS];
}

static struct context *context_find(const struct prefetch *prefetch, uint64_t id)
{
    struct context *set = context_set(prefetch, id);
    for (unsigned i = 0; i < WAYS; i++) {
        if (set[i].visits > 0 && set[i].id == id) {
            return &set[i];
        }
    }
    return NULL;
}

static void context_halve(struct context *context)
{
    context->visits /= 2;
    for (unsigned i = 0; i < SUCCESSORS; i++) {
        context->counts[i] /= 2;
    }
}

/* It came once more. */
static void context_visit(struct prefetch *prefetch, uint64_t id)
{
    struct context *context = context_find(prefetch, id);
    if (context != NULL) {
        if (++context->visits >= COUNT_MAX) {
            context_halve(context);
        }
        return;
    }
    struct context *set = context_set(prefetch, id);
    struct context *least = set;
    for (unsigned i = 1; i < WAYS; i++) {
        if (set[i].visits < least->visits) {
            least = &set[i];
        }
    }
    if (least->visits > 1) {
        for (unsigned i = 0; i < WAYS; i++) {
            context_halve(&set[i]);
        }
        return;
    }
    *least = (struct context){.id = id, .visits = 1};
}

/* `request` followed on it. */
static void context_follow(struct prefetch *prefetch, uint64_t id, uint64_t request)
{
    struct context *context = context_find(prefetch, id);
    if (context == NULL) {
        return;
    }
    unsigned least = 0;
    for (unsigned i = 0; i < SUCCESSORS; i++) {
        if (context->counts[i] > 0 && context->successors[i] == request) {
            if (context->counts[i] < COUNT_MAX) {
                context->counts[i]++;
            }
            return;
        }
        if (context->counts[i] < context->counts[least]) {
            least = i;
        }
    }
    if (context->counts[least] > 1) {
        context->counts[least]--;
        return;
    }
    context->successors[least] = request;
    context->counts[least] = 1;
}

/* ---- targets ---- */

static struct target *target_set(const struct prefetch *prefetch, uint64_t request)
{
    return &prefetch->targets[(mix(request) & (prefetch->target_sets - 1)) * WAYS];
}

static struct target *target_find(const struct prefetch *prefetch, uint64_t request)
{
    struct target *set = target_set(prefetch, request);
    for (unsigned i = 0; i < WAYS; i++) {
        if (set[i].weight > 0 && set[i].id == request) {
            return &set[i];
        }
    }
    return NULL;
}

static struct target *target_take(struct prefetch *prefetch, uint64_t request)
{
    struct target *set = target_set(prefetch, request);
    struct target *least = set;
    for (unsigned i = 1; i < WAYS; i++) {
        if (set[i].weight < least->weight) {
            least = &set[i];
        }
    }
    if (least->weight > 1) {
        for (unsigned i = 0; i < WAYS; i++) {
            set[i].weight /= 2;
        }
        return NULL;
    }
    least->id = request;
    least->weight = 0;
    least->bytes = 0;
    return least;
}

/* Keeps the text of what has followed something. */
static void target_note(struct prefetch *prefetch, uint64_t request, struct bytes text)
{
    struct target *target = target_find(prefetch, request);
    if (target == NULL) {
        target = target_take(prefetch, request);
    }
    if (target == NULL) {
        return;
    }
    if (target->weight < WEIGHT_MAX) {
        target->weight++;
    }
    /* Two texts may be one request, where the key leaves a part out: the last one counts. */
    if (!bytes_equal((struct bytes){target->text, target->bytes}, text)) {
        bytes_put(target->text, text);
        target->bytes = (uint16_t)text.len;
    }
}

/* ---- learning and guessing ---- */

bool prefetch_learn(struct prefetch *prefetch, uint64_t client_id, uint64_t request, struct bytes target, nanos now)
{
    CHECK(target.len <= PREFETCH_TARGET_BYTES_MAX);
    request = name_of(request);
    struct client *client = client_find(prefetch, client_id);
    if (client == NULL) {
        client = client_take(prefetch, client_id);
    }
    if (client->last[0] != 0 && now - client->seen_ns > prefetch->options.window_ns) {
        client->last[0] = 0;
        client->last[1] = 0;
    }
    client->seen_ns = now;
    if (client->last[0] == request) {
        return false;
    }
    if (client->last[0] != 0) {
        context_follow(prefetch, context_of_one(client->last[0]), request);
        target_note(prefetch, request, target);
    }
    if (client->last[1] != 0) {
        context_follow(prefetch, context_of_two(client->last[1], client->last[0]), request);
    }
    context_visit(prefetch, context_of_one(request));
    if (client->last[0] != 0) {
        context_visit(prefetch, context_of_two(client->last[0], request));
    }
    client->last[1] = client->last[0];
    client->last[0] = request;
    return true;
}

/* The most frequent successor, or 0. False: the context has not been seen often enough to say anything. */
static bool guess_by(const struct prefetch *prefetch, uint64_t id, uint64_t *ret_request)
{
    const struct context *context = context_find(prefetch, id);
    *ret_request = 0;
    /* The visit that asks has had no successor yet. */
    if (context == NULL || context->visits <= prefetch->options.support_min) {
        return false;
    }
    unsigned visits = context->visits - 1U;
    unsigned best = 0;
    for (unsigned i = 1; i < SUCCESSORS; i++) {
        if (context->counts[i] > context->counts[best]) {
            best = i;
        }
    }
    if (context->counts[best] >= prefetch->options.support_min &&
        context->counts[best] * 100U >= prefetch->options.confidence_percent * visits) {
        *ret_request = context->successors[best];
    }
    return true;
}

bool prefetch_predict(const struct prefetch *prefetch, uint64_t client_id, struct prefetch_guess *ret_guess)
{
    const struct client *client = client_find(prefetch, client_id);
    if (client == NULL) {
        return false;
    }
    uint64_t request = 0;
    bool is_known =
        client->last[1] != 0 && guess_by(prefetch, context_of_two(client->last[1], client->last[0]), &request);
    if (!is_known && !guess_by(prefetch, context_of_one(client->last[0]), &request)) {
        return false;
    }
    const struct target *target = request == 0 ? NULL : target_find(prefetch, request);
    if (target == NULL) {
        return false;
    }
    *ret_guess = (struct prefetch_guess){request, {target->text, target->bytes}};
    return true;
}
