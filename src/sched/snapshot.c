#include "sched/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "sched/endpoints.h"

#define KEPT_NS (3600 * NANOS_PER_S) /* a place stays its model's for so long after that has gone */

struct sched_place {
    struct published view;
    /* the owner's */
    unsigned upstream;
    bool is_plain;
    bool is_gone;
    uint32_t model_bytes;
    char model[SCHED_VIEW_MODEL_BYTES];
    uint64_t round; /* in which it was put up last */
    nanos seen_ns;
};

/* ---- views ---- */

static void take_tenant(const struct queue_tenant_figures *figures, void *context)
{
    struct sched_view *view = context;
    view->tenants++;
    uint32_t at = view->tenant_count;
    if (at == SCHED_VIEW_TENANTS_MAX) {
        if (view->tenant[--at].waiting >= figures->waiting) {
            return;
        }
    } else {
        view->tenant_count++;
    }
    for (; at > 0 && view->tenant[at - 1].waiting < figures->waiting; at--) {
        view->tenant[at] = view->tenant[at - 1];
    }
    view->tenant[at] = *figures;
}

static void take_endpoints(struct sched_view *view, const struct endpoints *endpoints)
{
    view->endpoint_count = endpoints->count > 1 ? endpoints->count : 0;
    for (uint32_t i = 0; i < view->endpoint_count; i++) {
        const struct endpoint *endpoint = &endpoints->all[i];
        bool is_paused = endpoint->paused_until_ns > view->at_ns;
        view->endpoint[i] = (struct sched_view_endpoint){
            .limit = endpoint->limit,
            .in_flight = endpoint->in_flight,
            .paused_ns = is_paused ? endpoint->paused_until_ns - view->at_ns : 0,
            .cuts = endpoint->cuts,
        };
    }
}

void sched_view_fill(struct sched_view *view, const struct admission *admission, nanos now)
{
    view->at_ns = now;
    admission_figures(admission, now, &view->figures);
    take_endpoints(view, admission_endpoints(admission));
    view->tenants = 0;
    view->tenant_count = 0;
    queue_each_tenant(admission_queue((struct admission *)(uintptr_t)admission), take_tenant, view);
    for (unsigned c = 0; c < SCHED_CLASSES; c++) {
        memset(&view->waits[c], 0, sizeof(view->waits[c]));
        histogram_merge(&view->waits[c], admission_waits(admission, c));
    }
}

struct bytes sched_view_label(const struct sched_view *view, char out[SCHED_VIEW_LABEL_BYTES])
{
    return sched_label((struct bytes){view->model, view->model_bytes}, out);
}

struct bytes sched_label(struct bytes model, char out[SCHED_VIEW_LABEL_BYTES])
{
    static const char digits[] = "0123456789ABCDEF";
    char *at = out;
    for (size_t i = 0; i < model.len; i++) {
        unsigned char c = (unsigned char)model.ptr[i];
        if (c >= 0x20 && c < 0x7f && c != '%') {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = digits[c >> 4];
            *at++ = digits[c & 15];
        }
    }
    return (struct bytes){out, (size_t)(at - out)};
}

/* ---- the board ---- */

void sched_board_fini(struct sched_board *board)
{
    for (unsigned i = 0; i < board->count; i++) {
        struct sched_place *place = atomic_load(&board->places[i]);
        published_fini(&place->view);
        free(place);
    }
    memset(board, 0, sizeof(*board));
}

void sched_board_begin(struct sched_board *board, nanos now)
{
    board->round++;
    board->now_ns = now;
    board->missed = 0;
}

static bool is_place_of(const struct sched_place *place, const struct sched_view *view)
{
    return place->upstream == view->upstream && place->is_plain == view->is_plain &&
           place->model_bytes == view->model_bytes && memcmp(place->model, view->model, view->model_bytes) == 0;
}

static struct sched_place *add_place(struct sched_board *board)
{
    struct sched_place *place = board->count < SCHED_BOARD_MODELS_MAX ? calloc(1, sizeof(*place)) : NULL;
    if (place == NULL || published_init(&place->view, sizeof(struct sched_view)) != RESULT_OK) {
        free(place);
        return NULL;
    }
    /* release pairs with the acquire in sched_board_each: what is read has been made */
    atomic_store_explicit(&board->places[board->count], place, memory_order_release);
    board->count++;
    return place;
}

/* The model's own place, else a new one, else the one that nobody has needed for an hour. NULL: none. */
static struct sched_place *find_place(struct sched_board *board, const struct sched_view *view)
{
    struct sched_place *spare = NULL;
    for (unsigned i = 0; i < board->count; i++) {
        struct sched_place *place = atomic_load_explicit(&board->places[i], memory_order_relaxed);
        if (is_place_of(place, view)) {
            return place;
        }
        if (place->is_gone && board->now_ns - place->seen_ns > KEPT_NS &&
            (spare == NULL || place->seen_ns < spare->seen_ns)) {
            spare = place;
        }
    }
    struct sched_place *place = add_place(board);
    place = place == NULL ? spare : place;
    if (place != NULL) {
        place->upstream = view->upstream;
        place->is_plain = view->is_plain;
        place->model_bytes = view->model_bytes;
        memcpy(place->model, view->model, view->model_bytes);
    }
    return place;
}

void sched_board_put(struct sched_board *board, const struct sched_view *view)
{
    struct sched_place *place = find_place(board, view);
    if (place == NULL) {
        board->missed++;
        return;
    }
    place->round = board->round;
    place->seen_ns = board->now_ns;
    place->is_gone = false;
    published_write(&place->view, view);
}

void sched_board_end(struct sched_board *board)
{
    static const struct sched_view gone = {.is_gone = true};
    for (unsigned i = 0; i < board->count; i++) {
        struct sched_place *place = atomic_load_explicit(&board->places[i], memory_order_relaxed);
        if (place->round != board->round && !place->is_gone) {
            place->is_gone = true;
            published_write(&place->view, &gone);
        }
    }
    atomic_store_explicit(&board->untold, board->missed, memory_order_relaxed);
}

void sched_board_each(const struct sched_board *board, struct sched_view *view,
                      void (*visit)(const struct sched_view *view, void *context), void *context)
{
    for (unsigned i = 0; i < SCHED_BOARD_MODELS_MAX; i++) {
        const struct sched_place *place = atomic_load_explicit(&board->places[i], memory_order_acquire);
        if (place == NULL) {
            return;
        }
        if (published_read(&place->view, view) && !view->is_gone) {
            visit(view, context);
        }
    }
}
