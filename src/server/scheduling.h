/* What the configuration says of scheduling, in the terms of gates; and whose a request is.
 *
 * Made once at start, constant after, shared by all workers. */
#ifndef SLUICE_SERVER_SCHEDULING_H
#define SLUICE_SERVER_SCHEDULING_H

#include "proxy/gate.h"
#include "server/config.h"

struct cache_key_source;

struct scheduling_name;

/* What it is that tells a tenant apart. Each has a seed of its own, or who sent a configured tenant's name as an API
 * key would be that tenant. */
enum identity_kind { IDENTITY_NAME, IDENTITY_KEY, IDENTITY_ADDRESS, IDENTITY_PART, IDENTITY_KINDS };

struct scheduling {
    struct gate_options *upstreams; /* by index */
    const struct config *config;
    const struct config_tenant **by_key; /* sorted */
    const struct config_tenant **by_value;
    struct scheduling_name *by_hash;     /* the same, by their hashes */
    uint64_t seeds[IDENTITY_KINDS];      /* of tenants' hashes: nobody can make one that is another's */
};

/* *Keeps* config. RESULT_NO_MEMORY leaves nothing behind. */
MUST_USE enum result scheduling_init(struct scheduling *scheduling, const struct config *config);
void scheduling_fini(struct scheduling *scheduling);

/* Who asks. */
struct scheduling_tenant {
    uint64_t hash;    /* 0: nobody in particular */
    uint64_t account; /* of the credentials that the upstream sees, whoever has them; 0: none */
    uint32_t weight;  /* thousandths */
    uint8_t class;
};

/* Of a request on a route; `client` is its address. */
struct scheduling_tenant scheduling_tenant_of(const struct scheduling *scheduling, const struct config_route *route,
                                              const struct cache_key_source *source, struct bytes client);

/* The configured name of the tenant of whom this is the hash; .ptr NULL: a stranger's. */
struct bytes scheduling_tenant_name(const struct scheduling *scheduling, uint64_t hash_of_name);

#endif
