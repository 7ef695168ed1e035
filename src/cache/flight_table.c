/* The flights of one shard, by key and by primary key. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cache/flight_internal.h"

enum { TABLE_BUCKETS_MIN = 256 };

static bool table_make(struct flight_table *table, size_t bucket_count)
{
    CHECK(bucket_count >= TABLE_BUCKETS_MIN);
    *table = (struct flight_table){.bucket_count = bucket_count};
    table->buckets = calloc(bucket_count, sizeof(struct flight *));
    table->primaries = malloc(bucket_count * sizeof(struct list_node));
    if (table->buckets == NULL || table->primaries == NULL) {
        flight_table_fini(table);
        return false;
    }
    for (size_t i = 0; i < bucket_count; i++) {
        list_init(&table->primaries[i]);
    }
    return true;
}

bool flight_table_init(struct flight_table *table)
{
    return table_make(table, TABLE_BUCKETS_MIN);
}

void flight_table_fini(struct flight_table *table)
{
    free(table->buckets);
    free(table->primaries);
    table->buckets = NULL;
    table->primaries = NULL;
}

static struct flight **table_bucket(const struct flight_table *table, uint64_t hash)
{
    return &table->buckets[hash & (table->bucket_count - 1)];
}

static struct list_node *table_primary(const struct flight_table *table, uint64_t primary_hash)
{
    return &table->primaries[primary_hash & (table->bucket_count - 1)];
}

static void table_link(struct flight_table *table, struct flight *flight)
{
    struct flight **bucket = table_bucket(table, flight->hash);
    flight->next = *bucket;
    *bucket = flight;
    list_push_back(table_primary(table, flight->primary_hash), &flight->primary);
    table->count++;
}

/* Twice as many buckets; when memory is out, chains grow instead. */
static void table_grow(struct flight_table *table)
{
    struct flight_table larger;
    if (!table_make(&larger, table->bucket_count * 2)) {
        return;
    }
    for (size_t i = 0; i < table->bucket_count; i++) {
        struct flight *flight = table->buckets[i];
        while (flight != NULL) {
            struct flight *next = flight->next;
            table_link(&larger, flight); /* the old lists go as a whole */
            flight = next;
        }
    }
    struct flight_table old = *table;
    *table = larger;
    flight_table_fini(&old);
}

static bool has_key_of(const struct flight *flight, const struct flight *like)
{
    return flight->hash == like->hash && flight->key_bytes == like->key_bytes &&
           memcmp(flight->key, like->key, like->key_bytes) == 0;
}

struct flight *flight_table_find(const struct flight_table *table, const struct flight *like)
{
    struct flight *flight = *table_bucket(table, like->hash);
    while (flight != NULL && (flight->variant != like->variant || !has_key_of(flight, like))) {
        flight = flight->next;
    }
    return flight;
}

struct flight *flight_table_find_sibling(const struct flight_table *table, const struct flight *like)
{
    struct flight *flight = *table_bucket(table, like->hash);
    while (flight != NULL && (flight->variant == like->variant || !has_key_of(flight, like))) {
        flight = flight->next;
    }
    return flight;
}

void flight_table_add(struct flight_table *table, struct flight *flight)
{
    if (table->count >= table->bucket_count) {
        table_grow(table);
    }
    table_link(table, flight);
}

void flight_table_remove(struct flight_table *table, struct flight *flight)
{
    if (flight->is_doomed) {
        return; /* it went when that happened */
    }
    struct flight **at = table_bucket(table, flight->hash);
    while (*at != flight) {
        at = &(*at)->next;
    }
    *at = flight->next;
    list_remove(&flight->primary);
    table->count--;
}

/* It ends for those who read it; who asks from now on must not get what was asked before, and begins another. */
static void doom(struct flight_table *table, struct flight *flight)
{
    flight_table_remove(table, flight);
    flight->is_doomed = true;
}

static bool is_met(const struct flight *flight, const struct shard_filter *filter)
{
    struct bytes key = {flight->key, flight->key_bytes};
    switch (filter->kind) {
    case SHARD_KEY: /* with a few that only begin so: rather fetched once more than stale */
    case SHARD_PREFIX: return bytes_starts_with(key, filter->text);
    case SHARD_TAG: return bytes_starts_with(key, filter->key_prefix); /* its tags are not known yet */
    case SHARD_ALL:
    case SHARD_ROUTE: return true;   /* nor is what its route stands for here */
    case SHARD_BEYOND: return false; /* a flight has no memory in the shard */
    }
    return true;
}

void flight_table_doom(struct flight_table *table, const struct shard_filter *filter)
{
    for (size_t i = 0; i < table->bucket_count && table->count > 0; i++) {
        struct flight *flight = table->buckets[i];
        while (flight != NULL) {
            struct flight *next = flight->next;
            if (is_met(flight, filter)) {
                doom(table, flight);
            }
            flight = next;
        }
    }
}

void flight_table_doom_key(struct flight_table *table, const struct cache_key *primary)
{
    const struct list_node *head = table_primary(table, primary->primary_hash);
    struct list_node *node = head->next;
    while (node != head) {
        struct flight *flight = CONTAINER_OF(node, struct flight, primary);
        struct bytes its = {flight->key, flight->primary_bytes};
        node = node->next;
        if (bytes_equal(its, primary->bytes)) {
            doom(table, flight);
        }
    }
}

bool flight_is_doomed(const struct flight *flight)
{
    return flight->is_doomed;
}
