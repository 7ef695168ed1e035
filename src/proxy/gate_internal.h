/* What the files of a gate share: gate.c (gates, passes), gate_owner.c (the admission), gate_link.c (to another
 * worker's). */
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
    uint32_t uses;            /* passes */
    nanos used_ns;
    struct list_node node; /* on models, or nameless */
    char model[];
};

struct gate_owner {
    struct gates *gates;
    struct gate_key key;
    struct admission *admission;
    struct gate_pass *submitting; /* the one that admission_submit looks at: told by its return */
    struct ring_timer timer;
    struct list_node node;  /* on owners */
    struct list_node links; /* of other workers */
    uint32_t uses;          /* links, and the gate here */
    uint32_t lent;
    uint32_t seats; /* granted to other workers */
    char model[];
};

/* One worker's side of another's admission. Freed by that worker, once the owner has let go of it. */
struct gate_link {
    struct lease lease; /* each side its own part */

    /* the asker's */
    struct gate *gate;
    unsigned owner_index;
    uint32_t open;           /* seats that are not over */
    uint32_t lent_in_use;    /* passes on credit */
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

/* ---- gate.c ---- */

bool gate_key_equal(const struct gate_key *a, const struct gate_key *b);

/* The pass has been decided, and is to be told later in this turn. */
void gate_decide(struct gates *gates, struct gate_pass *pass, enum gate_state state);

/* It has a grant from now on, or has none any more. Not counted for other workers' (which have no gate). */
void gate_count(struct gate_pass *pass, int by);

/* ---- gate_owner.c ---- */

/* The one for this key on this worker, made if need be, with one use more. NULL when memory is out. */
struct gate_owner *gate_owner_use(struct gates *gates, const struct gate_key *key);
void gate_owner_unuse(struct gate_owner *owner);

enum gate_answer gate_owner_enter(struct gate_owner *owner, struct gate_pass *pass);
void gate_owner_leave(struct gate_owner *owner, struct gate_pass *pass);
void gate_owner_first_token(struct gate_owner *owner, struct gate_pass *pass, nanos at);

/* Has the timer fire when something is to be looked at. */
void gate_owner_arm(struct gate_owner *owner);

/* Takes back what other workers have at hand: somebody waits. */
void gate_owner_recall(struct gate_owner *owner);

/* The lent slots have become fewer or more by so many. */
void gate_owner_lent(struct gate_owner *owner, int by);

/* ---- gate_link.c ---- */

/* *Gives* a link for `gate`, and has the owner know. NULL when memory is out. */
struct gate_link *gate_link_open(struct gate *gate, unsigned owner_index);

/* Nobody uses it: has the owner let go; frees it and its gate then. */
void gate_link_close(struct gate_link *link);

/* The process ends: frees it. */
void gate_link_free(struct gate_link *link);

enum gate_answer gate_link_enter(struct gate_link *link, struct gate_pass *pass);
void gate_link_leave(struct gate_link *link, struct gate_pass *pass);
void gate_link_first_token(struct gate_link *link, struct gate_pass *pass, nanos at);
void gate_link_tokens(struct gate_link *link, struct gate_pass *pass, uint32_t tokens);

/* At the owner: takes note of what the asker has told, and lends it more if that is of use. */
void gate_link_look(struct gate_link *link);

/* At the owner: takes back what is at hand. */
void gate_link_recall(struct gate_link *link);

#endif
