#include "api/models.h"

#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "base/check.h"

/* More than anybody serves; bounds what a backend gone wild can cost, since each is looked for among those before. */
enum { MODELS_MAX = 1024 };

struct answer {
    struct model_gathering *gathering;
    struct fetch *fetch;
    struct entry_reader reader;
    char *bytes;
    size_t used;
    size_t capacity;
    bool is_over;
};

struct model_gathering {
    struct model_directory *directory;
    void (*on_done)(void *context, struct bytes json, const struct fetch *failed);
    void *context;
    struct ring_timer timer;
    struct ring_task task;
    unsigned count;
    unsigned open;
    struct answer answers[];
};

/* ---- what is known ---- */

static void list_clear(struct model_list *list)
{
    for (unsigned i = 0; i < list->count; i++) {
        free(list->names[i]);
    }
    free(list->names);
    *list = (struct model_list){0};
}

static bool list_has(const struct model_list *list, struct bytes model)
{
    for (unsigned i = 0; i < list->count; i++) {
        if (bytes_equal(bytes_from(list->names[i]), model)) {
            return true;
        }
    }
    return false;
}

uint64_t model_directory_endpoints(const struct model_directory *directory, struct bytes model)
{
    uint64_t bits = 0;
    for (unsigned i = 0; model.len > 0 && i < directory->upstream->endpoint_count; i++) {
        if (list_has(&directory->lists[i], model)) {
            bits |= UINT64_C(1) << i;
        }
    }
    return bits == 0 ? UINT64_MAX : bits;
}

bool model_directory_offers(const struct model_directory *directory, struct bytes model)
{
    for (unsigned i = 0; i < directory->upstream->endpoint_count; i++) {
        if (list_has(&directory->lists[i], model)) {
            return true;
        }
    }
    return false;
}

struct bytes model_directory_scheduled_as(const struct model_directory *directory, struct bytes model)
{
    struct bytes only = BYTES_NONE;
    bool is_one = true;
    for (unsigned i = 0; i < directory->upstream->endpoint_count; i++) {
        const struct model_list *list = &directory->lists[i];
        for (unsigned k = 0; k < list->count; k++) {
            struct bytes name = bytes_from(list->names[k]);
            if (bytes_equal(name, model)) {
                return model;
            }
            is_one = is_one && (only.ptr == NULL || bytes_equal(name, only));
            only = only.ptr == NULL ? name : only;
        }
    }
    return only.ptr == NULL ? model : is_one ? only : BYTES_NONE;
}

bool model_directory_matters(const struct model_directory *directory)
{
    const struct model_list *first = &directory->lists[0];
    for (unsigned i = 1; i < directory->upstream->endpoint_count; i++) {
        const struct model_list *list = &directory->lists[i];
        if (list->count != first->count) {
            return true;
        }
        for (unsigned k = 0; k < list->count; k++) {
            if (!list_has(first, bytes_from(list->names[k]))) {
                return true;
            }
        }
    }
    return false;
}

static void learn(struct model_list *list, yyjson_val *data)
{
    list_clear(list);
    size_t count = yyjson_arr_size(data);
    count = count < MODELS_MAX ? count : MODELS_MAX;
    list->names = calloc(count + 1, sizeof(*list->names));
    if (list->names == NULL) {
        return;
    }
    size_t i;
    size_t max;
    yyjson_val *model;
    yyjson_arr_foreach(data, i, max, model)
    {
        const char *id = yyjson_get_str(yyjson_obj_get(model, "id"));
        char *name = id == NULL || list->count == count ? NULL : strdup(id);
        if (name != NULL) {
            list->names[list->count++] = name;
        }
    }
}

/* ---- gathering ---- */

static void gathering_free(struct model_gathering *gathering)
{
    struct ring *ring = gathering->directory->upstream->proxy->ring;
    ring_timer_cancel(ring, &gathering->timer);
    ring_task_cancel(&gathering->task);
    for (unsigned i = 0; i < gathering->count; i++) {
        struct answer *answer = &gathering->answers[i];
        entry_reader_leave(&answer->reader);
        if (answer->fetch != NULL) {
            fetch_unref(answer->fetch);
        }
        free(answer->bytes);
    }
    free(gathering);
}

void model_gathering_cancel(struct model_gathering *gathering)
{
    gathering_free(gathering);
}

static bool answer_is_good(const struct answer *answer)
{
    return answer->is_over && answer->fetch != NULL && answer->fetch->entry.state == ENTRY_COMPLETE &&
           answer->fetch->entry.status == 200;
}

static bool has_id(yyjson_mut_val *list, const char *id)
{
    size_t i;
    size_t max;
    yyjson_mut_val *model;
    yyjson_mut_arr_foreach(list, i, max, model)
    {
        const char *other = yyjson_mut_get_str(yyjson_mut_obj_get(model, "id"));
        if (other != NULL && strcmp(other, id) == 0) {
            return true;
        }
    }
    return false;
}

/* Adds the models of one answer to the union. False when it is not a list. */
static bool merge(struct model_gathering *gathering, struct answer *answer, yyjson_mut_doc *doc, yyjson_mut_val *list)
{
    yyjson_doc *read = yyjson_read(answer->bytes, answer->used, 0);
    yyjson_val *data = yyjson_obj_get(yyjson_doc_get_root(read), "data");
    bool is_list = yyjson_is_arr(data);
    if (is_list) {
        learn(&gathering->directory->lists[answer - gathering->answers], data);
        size_t i;
        size_t max;
        yyjson_val *model;
        yyjson_arr_foreach(data, i, max, model)
        {
            const char *id = yyjson_get_str(yyjson_obj_get(model, "id"));
            if (id != NULL && yyjson_mut_arr_size(list) < MODELS_MAX && !has_id(list, id)) {
                yyjson_mut_arr_append(list, yyjson_val_mut_copy(doc, model));
            }
        }
    }
    yyjson_doc_free(read);
    return is_list;
}

static void gathering_on_task(struct ring_task *task)
{
    struct model_gathering *gathering = CONTAINER_OF(task, struct model_gathering, task);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, root, "object", "list");
    yyjson_mut_obj_add_val(doc, root, "data", list);
    bool any = false;
    for (unsigned i = 0; i < gathering->count; i++) {
        if (answer_is_good(&gathering->answers[i])) {
            any = merge(gathering, &gathering->answers[i], doc, list) || any;
        }
    }
    size_t length = 0;
    char *json = any ? yyjson_mut_write(doc, 0, &length) : NULL;
    gathering->on_done(gathering->context, (struct bytes){json, length}, gathering->answers[0].fetch);
    free(json);
    yyjson_mut_doc_free(doc);
    gathering_free(gathering);
}

static bool answer_keep(struct answer *answer, struct bytes run)
{
    if (answer->used + run.len > MODELS_BODY_BYTES_MAX) {
        return false;
    }
    if (answer->used + run.len > answer->capacity) {
        size_t capacity = (answer->used + run.len) * 2;
        char *bytes = realloc(answer->bytes, capacity);
        if (bytes == NULL) {
            return false;
        }
        answer->bytes = bytes;
        answer->capacity = capacity;
    }
    memcpy(answer->bytes + answer->used, run.ptr, run.len);
    answer->used += run.len;
    return true;
}

static void answer_over(struct answer *answer)
{
    struct model_gathering *gathering = answer->gathering;
    answer->is_over = true;
    if (--gathering->open == 0) {
        ring_defer(gathering->directory->upstream->proxy->ring, &gathering->task);
    }
}

static void answer_on_progress(struct entry_reader *reader)
{
    struct answer *answer = CONTAINER_OF(reader, struct answer, reader);
    for (;;) {
        struct hold *hold;
        struct bytes run = entry_reader_peek(reader, &hold);
        if (run.len == 0) {
            break;
        }
        if (!answer_keep(answer, run)) {
            answer->used = 0;
        }
        entry_reader_pass(reader, run.len);
    }
    if (reader->entry->state != ENTRY_FILLING && !answer->is_over) {
        answer_over(answer);
    }
}

/* Whoever has not answered by now is left out. */
static void gathering_on_timer(struct ring_timer *timer)
{
    struct model_gathering *gathering = CONTAINER_OF(timer, struct model_gathering, timer);
    ring_defer(gathering->directory->upstream->proxy->ring, &gathering->task);
}

struct model_gathering *model_gather(struct model_directory *directory, const struct fetch_request *request,
                                     void (*on_done)(void *context, struct bytes json, const struct fetch *failed),
                                     void *context)
{
    struct upstream *upstream = directory->upstream;
    struct proxy *proxy = upstream->proxy;
    unsigned count = upstream->endpoint_count;
    struct model_gathering *gathering = calloc(1, sizeof(*gathering) + count * sizeof(struct answer));
    if (gathering == NULL) {
        return NULL;
    }
    gathering->directory = directory;
    gathering->on_done = on_done;
    gathering->context = context;
    gathering->count = count;
    gathering->open = count;
    ring_task_init(&gathering->task, gathering_on_task);
    ring_timer_init(&gathering->timer, gathering_on_timer);
    ring_timer_set(proxy->ring, &gathering->timer, ring_now(proxy->ring) + MODELS_GATHER_TIMEOUT_MS * NANOS_PER_MS);
    for (unsigned i = 0; i < count; i++) {
        struct answer *answer = &gathering->answers[i];
        answer->gathering = gathering;
        answer->fetch = fetch_create(proxy, true);
        if (answer->fetch == NULL) {
            answer_over(answer);
            continue;
        }
        answer->fetch->request = (struct fetch_request){
            .upstream = upstream,
            .endpoints_allowed = UINT64_C(1) << i,
            .line = request->line,
            .host = request->host,
            .fields = request->fields,
            /* no body: a fetch takes its body for its own, and the list does not depend on one */
        };
        entry_reader_join(&answer->reader, &answer->fetch->entry, answer_on_progress);
        fetch_start(answer->fetch);
    }
    return gathering;
}

/* ---- keeping it fresh ---- */

static void directory_on_refreshed(void *context, struct bytes json, const struct fetch *failed)
{
    struct model_directory *directory = context;
    (void)json;
    (void)failed;
    directory->refreshing = NULL;
}

static void directory_ask(struct model_directory *directory)
{
    const struct fetch_request request = {
        .upstream = directory->upstream,
        .line = BYTES("GET /v1/models HTTP/1.1\r\n"),
        .fields = BYTES("Accept: application/json\r\nUser-Agent: sluice\r\n\r\n"),
    };
    directory->asked_ns = ring_now(directory->upstream->proxy->ring);
    if (directory->refreshing == NULL) {
        directory->refreshing = model_gather(directory, &request, directory_on_refreshed, directory);
    }
}

static void directory_on_timer(struct ring_timer *timer)
{
    struct model_directory *directory = CONTAINER_OF(timer, struct model_directory, refresh);
    struct ring *ring = directory->upstream->proxy->ring;
    directory_ask(directory);
    ring_timer_set(ring, timer, ring_now(ring) + MODELS_REFRESH_MS * NANOS_PER_MS);
}

void model_directory_wonder(struct model_directory *directory)
{
    nanos now = ring_now(directory->upstream->proxy->ring);
    if (directory->asked_ns == 0 || now - directory->asked_ns >= MODELS_REFRESH_MS * NANOS_PER_MS) {
        directory_ask(directory);
    }
}

void model_directory_init(struct model_directory *directory, struct upstream *upstream)
{
    memset(directory, 0, sizeof(*directory));
    directory->upstream = upstream;
    ring_timer_init(&directory->refresh, directory_on_timer);
}

void model_directory_start(struct model_directory *directory)
{
    if (directory->upstream->endpoint_count > 1) {
        struct ring *ring = directory->upstream->proxy->ring;
        ring_timer_set(ring, &directory->refresh, ring_now(ring));
    }
}

void model_directory_stop(struct model_directory *directory)
{
    ring_timer_cancel(directory->upstream->proxy->ring, &directory->refresh);
    if (directory->refreshing != NULL) {
        model_gathering_cancel(directory->refreshing);
        directory->refreshing = NULL;
    }
}

void model_directory_fini(struct model_directory *directory)
{
    for (unsigned i = 0; i < UPSTREAM_ENDPOINTS_MAX; i++) {
        list_clear(&directory->lists[i]);
    }
}
