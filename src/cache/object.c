#include "cache/object.h"

/* A walk through a key's runs. */
struct key_walk {
    struct bytes run; /* what is left of the run it is in */
    const struct chunk *next;
};

static struct key_walk key_walk_start(const struct cache_object *object)
{
    return (struct key_walk){{object->key, object->key_here_bytes}, object->key_rest};
}

/* Compares `text` with the walk's next bytes, of which there are as many, and passes them. */
static bool key_walk_equals(struct key_walk *walk, struct bytes text)
{
    while (text.len > 0) {
        if (walk->run.len == 0) {
            walk->run = (struct bytes){walk->next->data, chunk_used(walk->next)};
            walk->next = atomic_load_explicit(&walk->next->next, memory_order_acquire);
        }
        size_t part = text.len < walk->run.len ? text.len : walk->run.len;
        if (memcmp(text.ptr, walk->run.ptr, part) != 0) {
            return false;
        }
        text.ptr += part;
        text.len -= part;
        walk->run.ptr += part;
        walk->run.len -= part;
    }
    return true;
}

bool cache_object_has_key(const struct cache_object *object, struct bytes key)
{
    struct key_walk walk = key_walk_start(object);
    return object->key_bytes == key.len && key_walk_equals(&walk, key);
}

bool cache_object_same_key(const struct cache_object *a, const struct cache_object *b)
{
    if (a->key_bytes != b->key_bytes) {
        return false;
    }
    struct key_walk walk = key_walk_start(a);
    struct bytes run = {b->key, b->key_here_bytes};
    const struct chunk *next = b->key_rest;
    while (key_walk_equals(&walk, run)) {
        if (next == NULL) {
            return true;
        }
        run = (struct bytes){next->data, chunk_used(next)};
        next = atomic_load_explicit(&next->next, memory_order_acquire);
    }
    return false;
}

bool cache_object_has_first_line(const struct cache_object *object, struct bytes text)
{
    struct key_walk walk = key_walk_start(object);
    return object->key_bytes >= text.len && key_walk_equals(&walk, text) &&
           (object->key_bytes == text.len || key_walk_equals(&walk, BYTES("\n")));
}

bool cache_object_has_prefix(const struct cache_object *object, struct bytes prefix)
{
    struct key_walk walk = key_walk_start(object);
    return object->key_bytes >= prefix.len && key_walk_equals(&walk, prefix);
}
