/* Gates: admission in the way of fetches. One per model of an inference upstream, one per plain upstream.
 *
 * Each has one owner, a worker found by the hash of its name, which holds its admission (sched/admission.h). Every
 * worker that has fetches for it has a gate of its own, its side of it:
 *
 *   this worker is the owner:   gate ─▶ admission
 *   another is:                 gate ─ credit at hand (sched/lease.h) ─▶ goes at once, without a message
 *                                 └─ none ─ ask ─▶ owner's admission ─ grant or shed ─▶ gate; the end ─▶ owner
 *
 * A pass is a fetch's place in it:
 *
 *                gate_try ─── true ───────────────────────────────────▶ LENT ─ gate_leave ─▶ OUT
 *              gate_enter ─┬─ GATE_GRANTED ──────────────────────────▶ HELD, LENT ─ gate_leave ─▶ OUT
 *                          ├─ GATE_QUEUED ─▶ WAITING ─ on_decided ─┬─▶ HELD ─ gate_leave ─▶ OUT
 *                          │                    └─ gate_leave ─▶ OUT└─▶ OUT, with the reason in `shed`
 *                          └─ GATE_SHED ─▶ OUT, with the reason in `shed`
 *
 * Every grant is released exactly once: gates_outstanding is zero when no fetch is under way, and is checked when the
 * worker ends. Memory: a gate and, at its owner, an admission (about 20 KB) for each model in use, at most
 * GATE_MODELS_MAX per upstream and worker. Beyond that the one that nobody has used for longest makes room, if nobody
 * has for a minute.
 *
 * Model names come from requests, and who makes one up is not to get a limit and a queue of his own by it. A name has
 * its own gate when the upstream offers it (/v1/models), or, where nobody knows what it offers, has answered a request
 * for it with 2xx; a few names at a time are given one on trial, until the first answer, and all others share the
 * upstream's gate without a name. */
#ifndef SLUICE_PROXY_GATE_H
#define SLUICE_PROXY_GATE_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "ring/mailbox.h"
#include "ring/ring.h"
#include "sched/admission.h"
#include "sched/cost.h"

enum {
    GATE_MODELS_MAX = 64,
    GATE_MODEL_BYTES_MAX = 256, /* a longer name has no gate of its own */
};

struct gate;
struct gate_names;
struct gate_owner;
struct gate_seat;

/* What holds for one upstream's gates. Constant. */
struct gate_options {
    struct bytes name; /* the upstream's: for the log */
    bool is_enabled;
    struct admission_options model; /* of an inference API's models */
    struct admission_options plain; /* of an ordinary service */
    struct cost_options cost;       /* of models' requests */
};

/* ---- a worker's gates ---- */

struct gates {
    struct ring *ring;
    unsigned index; /* this worker's */
    unsigned count; /* of workers */
    struct gates *const *peers;
    const struct gate_options *options; /* by upstream */
    unsigned upstream_count;
    struct gate **plain;        /* by upstream; NULL: not needed yet */
    struct gate_names **names;  /* by upstream; NULL: likewise */
    struct list_node models;    /* gates with a name, the last used first */
    struct list_node nameless;  /* of inference upstreams */
    struct list_node owners;    /* of gates that this worker owns */
    struct list_node decisions; /* passes to be told of them, later in this turn */
    struct ring_task telling;
    struct list_node paused;       /* passes whose accounts are to be left alone */
    struct ring_timer pause;       /* when the first of them may ask */
    _Atomic uint64_t paused_count; /* of them: one writer, read by the metrics */
    uint32_t pressure_milli;       /* of this machine, as told last */
    unsigned closing;              /* links that their owners have still to let go of */
    _Atomic uint64_t outstanding;  /* grants held by fetches of this worker: one writer, read by the metrics */
};

struct gates_options {
    struct ring *ring;
    unsigned index;
    unsigned count;
    struct gates *const *peers;         /* all workers', complete before the first fetch begins; *keeps* */
    const struct gate_options *options; /* by upstream; *keeps* */
    unsigned upstream_count;
};

/* RESULT_NO_MEMORY. */
MUST_USE enum result gates_init(struct gates *gates, const struct gates_options *options);

/* Whether this worker holds no grant and none of what it owns is held or waited for. Takes note of what other workers
 * have told. */
bool gates_are_settled(struct gates *gates);

/* All workers have settled and stopped turning, and none has begun to free: takes note of the last ends, and checks
 * that every grant was released. */
void gates_close(struct gates *gates);
void gates_fini(struct gates *gates);

/* How short this machine is of something (sched/pressure.h): for all that this worker owns. */
void gates_set_pressure(struct gates *gates, uint32_t pressure_milli);

/* The gate of a plain service. NULL: the upstream has none, or memory is out (then nothing is held back). */
struct gate *gates_plain(struct gates *gates, unsigned upstream);

/* The gate of a model; of an empty name, beyond the bounds, and of names that are not known to be any: the one of all
 * such. `is_offered`: the upstream itself says that it has it. Likewise. */
struct gate *gates_model(struct gates *gates, unsigned upstream, struct bytes model, bool is_offered);

/* Whether it is that of models without a gate of their own. */
bool gate_is_shared(const struct gate *gate);

/* The worker that has the admission of a model, whether there is one or not: what else is to be in one place for a
 * model can be there, too. */
unsigned gates_owner_of(const struct gates *gates, unsigned upstream, struct bytes model);

/* How many the admission would let be in flight now; 0: it is not this worker's, or there is none. */
uint32_t gate_limit(const struct gate *gate);

/* What this worker has learned of a model's costs, from its own fetches. NULL: of a plain service, of no gate, or
 * memory is out. Valid as long as a pass is for the gate. */
struct cost_model *gate_cost(struct gate *gate);

/* ---- a pass ---- */

enum gate_state {
    GATE_OUT,
    GATE_PAUSED,        /* the backend wants its account to be left alone: it waits here, and asks then */
    GATE_PAUSE_OVER,    /* it asks later in this turn */
    GATE_WAITING,       /* in the admission's queue, here or at the owner */
    GATE_TO_BE_GRANTED, /* on_decided comes later in this turn */
    GATE_TO_BE_SHED,
    GATE_HELD,
    GATE_LENT, /* on a credit of this worker's */
};

enum gate_answer { GATE_GRANTED, GATE_QUEUED, GATE_SHED };

struct gate_pass {
    struct gate *gate; /* NULL: let through unasked */
    /* It was queued and is decided: `state` is GATE_HELD or GATE_LENT, or GATE_OUT and `shed` says why. May leave. */
    void (*on_decided)(struct gate_pass *pass);
    struct sched_request request; /* the submitter's part is filled in before gate_enter */
    bool is_now_or_never;         /* nobody waits for it: shed unless it can go at once */
    uint64_t account;             /* a hash of the credentials that it is sent with; 0: none. The submitter's */
    uint64_t name;                /* a hash of the model's, whosever gate it has; 0: none */

    /* why it was shed */
    enum sched_shed shed;
    nanos retry_after_ns;

    /* how it went: for gate_leave */
    struct admission_outcome outcome;

    /* private */
    bool is_clients_matter; /* that it is refused says nothing of the backend */
    enum gate_state state;
    struct gate_seat *seat; /* at another worker's admission; NULL: none */
    struct list_node node;  /* on decisions, or paused */
    uint32_t untold_tokens;
};

/* Makes a pass for `gate` (NULL: none yet), of which it keeps a use until gate_pass_fini; all else is zero. */
void gate_pass_init(struct gate_pass *pass, struct gate *gate);

/* Has it be for this gate (NULL: none); what the submitter has said stays. */
void gate_pass_choose(struct gate_pass *pass, struct gate *gate);

/* Likewise, for gates_model's; what is answered tells whether the name is one. */
void gate_pass_choose_model(struct gate_pass *pass, struct gates *gates, unsigned upstream, struct bytes model,
                            bool is_offered);
void gate_pass_fini(struct gate_pass *pass);

/* Whether the upstream should be asked what it has: the pass names a model that nobody has been served, and it is not
 * one of the first few names. */
bool gate_pass_is_doubtful(const struct gate_pass *pass);

/* Makes a pass that goes at once, on a credit that this worker has at hand: nothing has to be known of its request but
 * the class of its route. False: there is none, and nothing is made. The grant is to be left as any other. For what
 * begins in this turn: a credit is not to lie idle. */
bool gate_try(struct gate_pass *pass, struct gate *gate, uint8_t class);

/* Asks. *Pins* pass until it is GATE_OUT again. GATE_QUEUED: on_decided tells, from the loop. */
MUST_USE enum gate_answer gate_enter(struct gate_pass *pass);

/* The fetch is over, however it went, whether it was let through or not: with pass->outcome. */
void gate_leave(struct gate_pass *pass);

/* The first event with content came at `at`; and further tokens. Nothing without a grant. */
void gate_on_first_token(struct gate_pass *pass, nanos at);
void gate_on_tokens(struct gate_pass *pass, uint32_t tokens);

/* Its answer begins, with this status; the outcome has what pause it asks for. */
void gate_on_answer(struct gate_pass *pass, unsigned status);

/* Which endpoint serves it. */
void gate_on_endpoint(struct gate_pass *pass, unsigned endpoint);

/* Whether it is for a plain service. */
bool gate_is_plain(const struct gate *gate);

/* The endpoint that the grant names; SCHED_ENDPOINT_ANY: the pool chooses. */
unsigned gate_endpoint(const struct gate_pass *pass);

/* ---- figures ---- */

/* What this worker owns, on its own thread. */
struct gate_view {
    unsigned upstream;
    bool is_plain;
    struct bytes model; /* empty: of a plain service, or of all without a gate of their own */
    const struct admission *admission;
    uint32_t lent;        /* credits that other workers have */
    uint64_t turned_away; /* SCHED_SHED_CLIENT_PAUSED, which the admission knows nothing of */
};
void gates_each_owned(const struct gates *gates, void (*visit)(const struct gate_view *view, void *context),
                      void *context);

#endif
