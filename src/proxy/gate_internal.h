/* What the files of a gate share: gate.c (gates, passes), gate_names.c (which names have one), gate_accounts.c
 * (whose matter a 429 is), gate_owner.c (the admission), gate_link.c (to another worker's). */
#ifndef SLUICE_PROXY_GATE_INTERNAL_H
#define SLUICE_PROXY_GATE_INTERNAL_H

#include "proxy/gate.h"
#include "sched/lease.h"

/* What a gate is for: the same on all workers. */
struct gate_key {
    unsigned upstream;
    bool is_plain;
    uint64_t hash; /* of the model's name */
    struct bytes model;
};

struct gate {
    struct gates *gates;
    struct gate_key key;
    struct gate_owner *owner; /* NULL: another worker has it */
    struct gate_link *link;   /* to that one; NULL: it is here */
    struct cost_model *cost;  /* NULL: of a plain service, or memory was out */
    uint32_t uses;            /* passes */
    bool is_unfounded;        /* its name is none: it goes with its last pass */
    uint32_t paused;          /* passes that wait for their accounts' pauses to be over, and their bodies */
    uint64_t paused_bytes;
    struct gate_accounts *accounts; /* NULL: none had an answer yet */
    _Atomic uint64_t turned_away;   /* for their accounts' pauses; read by the owner */
    nanos used_ns;
    struct list_node node; /* on models, or nameless */
    char model[];
};

/* Which of those that went on credit are told to the admission. Of a plain service one a millisecond, and all that went
 * wrong: it learns as much from them, and at a hundred thousand a second telling of each would cost more than all else
 * here. What a model takes is told of each. */
struct gate_sampler {
    nanos next_ns;
    uint32_t passed; /* not told of, since the last that was */
};

/* What it would have done up to the last line of the log that said so, where it only observes. */
struct gate_observed {
    nanos told_ns; /* or when the first since then was counted */
    uint64_t waited, shed, granted;
};

struct gate_owner {
    struct gates *gates;
    struct gate_key key;
    struct admission *admission;
    struct gate_pass *submitting; /* the one that admission_submit looks at: told by its return */
    struct ring_timer timer;
    struct list_node node;      /* on owners */
    struct list_node links;     /* of other workers */
    uint32_t uses;              /* links, and the gate here */
    uint32_t lent;              /* to this worker, and to others */
    uint32_t seats;             /* granted to other workers */
    const struct gate *own;     /* NULL: no fetch of this worker has needed it */
    uint64_t turned_away_there; /* by gates of other workers that have gone */
    nanos aged_ns;              /* when it last looked which of what it has lent is not used */
    /* its own fetches go on credit, too: as long as nobody waits, admission has nothing to decide */
    uint32_t own_free;
    uint32_t own_in_use;
    bool own_is_recalled;
    bool own_was_used;
    struct gate_sampler sampler;
    struct gate_observed observed;
    char model[];
};

/* One worker's side of another's admission. Freed by that worker, once the owner has let go of it. */
struct gate_link {
    struct lease lease; /* each side its own part */

    /* the asker's */
    struct gate *gate;
    unsigned owner_index;
    uint32_t open;        /* seats that are not over */
    uint32_t lent_in_use; /* passes on credit */
    struct gate_sampler sampler;
    struct list_node untold; /* seats whose event found no room */
    struct ring_timer retry;
    struct ring_message opening; /* to the owner: the first */
    struct ring_message nudge;   /* to the owner: there are events */
    struct ring_message closing; /* to the owner and back: the last */
    _Atomic bool is_nudged;      /* set by the asker, cleared by the owner before it looks */

    /* the owner's */
    _Atomic uint32_t in_flight_there; /* without this worker's on credit: a hint for the asker */
    struct gate_owner *owner;         /* NULL: memory was out; nothing is held back then */
    struct list_node node;
};

enum {
    GATE_TRIALS_MAX = 4,
    GATE_NAMES_MANY = 16, /* of an upstream with one endpoint: with so many others it is asked which it has */
};

/* Names of an upstream's models of which nobody but clients says that there are such.
 *
 *   UNKNOWN ─ a trial is free ─▶ ON TRIAL (own gate) ─ 2xx ─▶ PROVEN (own gate)
 *      │                            └─ 4xx, or nothing in a minute ─▶ UNKNOWN, and without its gate
 *      └─ else shares the gate without a name ─ 2xx ─▶ PROVEN
 *
 * A trial that failed is free again a minute after it began, so that made-up names come to a few a minute, each for as
 * long as its first answer takes. Hashes only: of a stranger's names eight bytes are kept, however long they are. */
struct gate_names {
    struct gate_trial {
        uint64_t hash;
        bool has_failed;
        nanos began_ns; /* 0: it is free */
    } trials[GATE_TRIALS_MAX];
    unsigned count;
    struct gate_name {
        uint64_t hash;
        nanos served_ns; /* last */
    } proven[GATE_MODELS_MAX];
};

/* ---- gate.c ---- */

bool gate_key_equal(const struct gate_key *a, const struct gate_key *b);

/* Whether it holds nothing back. */
bool gate_only_observes(const struct gate *gate);

/* The worker that has the admission for it. */
unsigned gate_owner_index(const struct gates *gates, const struct gate_key *key);

struct gate *gate_find(struct list_node *list, const struct gate_key *key);

/* Its place is the list's front then. NULL when memory is out. */
struct gate *gate_find_or_create(struct gates *gates, struct list_node *list, const struct gate_key *key);

/* Whether nobody uses it. */
bool gate_is_idle(const struct gate *gate);

/* Lets go of a gate that nobody uses. */
void gate_forget(struct gate *gate);

/* The pass has been decided, and is to be told later in this turn. */
void gate_decide(struct gates *gates, struct gate_pass *pass, enum gate_state state);

/* Tells a pass what was decided, whose state says so. */
void gate_tell(struct gate_pass *pass);

/* It has a grant from now on, or has none any more. Not counted for other workers' (which have no gate). */
void gate_count(struct gate_pass *pass, int by);

/* Makes it one that goes on credit; `in_flight`: so many do already. */
void gate_pass_lend(struct gate_pass *pass, nanos now, uint32_t in_flight);

/* Whether the owner is to be told of one that went on credit and is over, as *ret_lent. */
bool gate_sample(struct gate_sampler *sampler, const struct gate_pass *pass, nanos now,
                 struct admission_lent *ret_lent);

/* Whether it may go on credit: large prompts are counted by the owner, which lets in few at a time. */
bool gate_is_small(const struct gate *gate, const struct sched_request *request);

/* ---- gate_accounts.c ---- */

/* Takes note of an answer to the pass's account, which is not 0; of a 429 it decides whose matter that is. */
void gate_accounts_on_answer(struct gate_pass *pass, unsigned status);

/* Whether its account is to be left alone. */
bool gate_accounts_is_paused(const struct gate_pass *pass);

/* Likewise; then the pass is GATE_PAUSED and will ask later, or says why it is turned away. */
enum gate_pause { GATE_NOT_PAUSED, GATE_IS_PAUSED, GATE_TURNED_AWAY };
enum gate_pause gate_accounts_pause(struct gate_pass *pass);

/* A pass that is GATE_PAUSED leaves. */
void gate_accounts_leave(struct gate_pass *pass);

/* Some pause is over. */
void gate_accounts_on_timer(struct ring_timer *timer);

/* ---- gate_owner.c ---- */

/* The one for this key on this worker, made if need be, with one use more. NULL when memory is out. */
struct gate_owner *gate_owner_use(struct gates *gates, const struct gate_key *key);
void gate_owner_unuse(struct gate_owner *owner);

/* Takes a credit, if there is one: so many are in flight then. */
bool gate_owner_take(struct gate_owner *owner, uint32_t *ret_in_flight);

enum gate_answer gate_owner_enter(struct gate_owner *owner, struct gate_pass *pass);
void gate_owner_leave(struct gate_owner *owner, struct gate_pass *pass);
void gate_owner_first_token(struct gate_owner *owner, struct gate_pass *pass, nanos at);
void gate_owner_endpoint(struct gate_owner *owner, struct gate_pass *pass, unsigned endpoint);

/* Has the timer fire when something is to be looked at. */
void gate_owner_arm(struct gate_owner *owner);

/* How many passes were turned away for their accounts' pauses, on all workers. */
uint64_t gate_owner_turned_away(const struct gate_owner *owner);

/* Takes back what other workers have at hand: somebody waits. */
void gate_owner_recall(struct gate_owner *owner);

/* The lent slots have become fewer or more by so many. */
void gate_owner_lent(struct gate_owner *owner, int by);

/* How many to lend to who has `has` already: as many again, while there are enough for all. */
uint32_t gate_owner_share(const struct gate_owner *owner, uint32_t has);

/* Takes back what is lent if it is more than the admission would lend now. */
void gate_owner_check(struct gate_owner *owner);

/* ---- gate_link.c ---- */

/* *Gives* a link for `gate`, and has the owner know. NULL when memory is out. */
struct gate_link *gate_link_open(struct gate *gate, unsigned owner_index);

/* Nobody uses it: has the owner let go; frees it and its gate then. */
void gate_link_close(struct gate_link *link);

/* The process ends: frees it. */
void gate_link_free(struct gate_link *link);

/* Takes a credit, if there is one: so many are in flight then. */
bool gate_link_take(struct gate_link *link, uint32_t *ret_in_flight);

enum gate_answer gate_link_enter(struct gate_link *link, struct gate_pass *pass);
void gate_link_leave(struct gate_link *link, struct gate_pass *pass);
void gate_link_first_token(struct gate_link *link, struct gate_pass *pass, nanos at);
void gate_link_tokens(struct gate_link *link, struct gate_pass *pass, uint32_t tokens);
void gate_link_endpoint(struct gate_link *link, struct gate_pass *pass, unsigned endpoint);

/* At the owner: takes note of what the asker has told. */
void gate_link_look(struct gate_link *link);

/* At the owner: how many of the slots that the asker has are in use, roughly. */
uint32_t gate_link_in_use(const struct gate_link *link);

/* At the owner: takes back what is at hand. */
void gate_link_recall(struct gate_link *link);

#endif
