/* What the scheduler of a core says of its models to the other cores.
 *
 * A board belongs to one core, which owns models. Now and then it puts up a view of each: a copy of all figures, taken
 * on that core; whoever wants to tell of them reads whole views (base/published.h), at any time and from any thread.
 *
 *   owner:   sched_board_begin ─ sched_board_put for each model ─ sched_board_end     (models not put up have gone)
 *   others:  sched_board_each ─▶ visit(view)
 *
 * Names of models come from requests, so there is a bound: SCHED_BOARD_MODELS_MAX places of a board. A place belongs to
 * its name until that model has been gone for an hour; who finds none is counted in `untold` and not seen. What is told
 * further with these names as labels (metrics) is so bounded in number, and in how fast it changes.
 *
 * Memory: 23 KB for each place in use. */
#ifndef SLUICE_SCHED_SNAPSHOT_H
#define SLUICE_SCHED_SNAPSHOT_H

#include "base/bytes.h"
#include "base/histogram.h"
#include "base/published.h"
#include "sched/admission.h"

enum {
    SCHED_BOARD_MODELS_MAX = 64,
    SCHED_VIEW_MODEL_BYTES = 256,
    SCHED_VIEW_LABEL_BYTES = 3 * SCHED_VIEW_MODEL_BYTES + 1,
    SCHED_VIEW_TENANTS_MAX = 32, /* those that wait most; the rest is only counted */
};

/* One model, or one plain service, at one moment. */
struct sched_view {
    unsigned upstream;
    bool is_plain;
    bool is_gone; /* it is not there any more: nothing else counts */
    uint32_t model_bytes;
    char model[SCHED_VIEW_MODEL_BYTES]; /* empty: of a plain service, or of requests that name none */
    nanos at_ns;
    uint32_t lent; /* credits that other cores have */
    struct admission_figures figures;
    uint32_t tenants; /* known to the queue, those not told of included */
    uint32_t tenant_count;
    struct queue_tenant_figures tenant[SCHED_VIEW_TENANTS_MAX]; /* the most waiting first */
    struct histogram waits[SCHED_CLASSES];
    uint32_t endpoint_count; /* 0: it has one alone, whose limit is the model's */
    struct sched_view_endpoint {
        double limit; /* INFINITY: none */
        uint32_t in_flight;
        nanos paused_ns; /* for so long it is left alone; 0: it is not */
        uint64_t cuts;
    } endpoint[SCHED_ENDPOINTS_MAX];
};

/* Takes the figures of `admission`, on its own core; *borrows*. The rest of the view stays as it is. */
void sched_view_fill(struct sched_view *view, const struct admission *admission, nanos now);

/* A model's name, of SCHED_VIEW_MODEL_BYTES at most, as it can be shown anywhere: what is not printable ASCII, and %,
 * stands as %XX, so that different names stay different. Returns it, in `out`. */
struct bytes sched_label(struct bytes model, char out[SCHED_VIEW_LABEL_BYTES]);
struct bytes sched_view_label(const struct sched_view *view, char out[SCHED_VIEW_LABEL_BYTES]);

struct sched_place;

struct sched_board {
    struct sched_place *_Atomic places[SCHED_BOARD_MODELS_MAX]; /* filled from the front, and then they stay */
    unsigned count;
    uint64_t round;
    nanos now_ns;
    uint32_t missed;
    _Atomic uint64_t untold; /* models of the last round without a place */
};

/* An empty board is all zero. Frees the places: nobody may be reading. */
void sched_board_fini(struct sched_board *board);

/* ---- on the owner's core ---- */

void sched_board_begin(struct sched_board *board, nanos now);

/* Puts up a copy of *view. */
void sched_board_put(struct sched_board *board, const struct sched_view *view);

/* Takes down what was not put up in this round. */
void sched_board_end(struct sched_board *board);

/* ---- anywhere ---- */

/* Calls `visit` for each model that is there; `view` has room for one. */
void sched_board_each(const struct sched_board *board, struct sched_view *view,
                      void (*visit)(const struct sched_view *view, void *context), void *context);

#endif
