#include "cache/entry.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void entry_init(struct entry *entry, struct chunk_pool *pool, struct entry_filler *filler, uint64_t window_bytes_max,
                bool is_private)
{
    memset(entry, 0, sizeof(*entry));
    entry->pool = pool;
    entry->filler = filler;
    entry->window_bytes_max = window_bytes_max;
    entry->is_private = is_private;
    entry->has_window = is_private;
    entry->uses = 1;
    list_init(&entry->readers);
}

/* Where an entry_tell is among the readers: they, and the entry, may go from inside it. */
struct entry_cursor {
    struct list_node *next;
    struct entry_cursor *outer;
    bool is_over; /* the entry is gone */
};

void entry_fini(struct entry *entry)
{
    CHECK(list_is_empty(&entry->readers));
    for (struct entry_cursor *cursor = entry->cursor; cursor != NULL; cursor = cursor->outer) {
        cursor->is_over = true;
    }
    struct chunk *chunk = entry->first;
    while (chunk != NULL) {
        struct chunk *next = atomic_load_explicit(&chunk->next, memory_order_relaxed);
        chunk_unref(chunk);
        chunk = next;
    }
    if (entry->head != NULL) {
        chunk_unref(entry->head);
    }
    free(entry->trailers);
    entry->first = NULL;
    entry->last = NULL;
    entry->head = NULL;
    entry->trailers = NULL;
}

/* ---- filling ---- */

enum result entry_room_for_head(struct entry *entry, size_t bytes, char **ret_at)
{
    CHECK(entry->first == NULL && bytes <= CHUNK_LARGE_BYTES - sizeof(struct chunk));
    /* A small chunk when most answers' bodies, too, fit behind the head. */
    enum chunk_size size = bytes <= CHUNK_SMALL_BYTES / 2 ? CHUNK_SMALL : CHUNK_LARGE;
    struct chunk *chunk = chunk_acquire(entry->pool, size);
    if (chunk == NULL) {
        return RESULT_NO_MEMORY;
    }
    entry->first = chunk;
    entry->last = chunk;
    *ret_at = chunk->data;
    return RESULT_OK;
}

void entry_commit_head(struct entry *entry, uint16_t status, size_t bytes)
{
    struct chunk *chunk = entry->first;
    chunk_ref(chunk); /* the head's own: a private entry lets go of chunks that were read */
    entry->head = chunk;
    entry->head_bytes = (uint32_t)bytes;
    /* release pairs with the acquire in chunk_used */
    atomic_store_explicit(&chunk->used_bytes, (uint32_t)bytes, memory_order_release);
    entry->status = status;
    entry->has_news = true;
}

enum result entry_room(struct entry *entry, char **ret_at, size_t *ret_bytes)
{
    struct chunk *last = entry->last;
    if (last == NULL || chunk_used(last) == chunk_capacity(last)) {
        /* The first chunk is small: most answers fit it; what is longer comes in large ones. */
        struct chunk *chunk = chunk_acquire(entry->pool, entry->body_bytes == 0 ? CHUNK_SMALL : CHUNK_LARGE);
        if (chunk == NULL) {
            return RESULT_NO_MEMORY;
        }
        if (last == NULL) {
            entry->first = chunk;
        } else {
            /* release pairs with a reader's acquire of `next` */
            atomic_store_explicit(&last->next, chunk, memory_order_release);
        }
        entry->last = chunk;
        last = chunk;
    }
    uint32_t used = chunk_used(last);
    *ret_at = last->data + used;
    *ret_bytes = chunk_capacity(last) - used;
    return RESULT_OK;
}

void entry_commit(struct entry *entry, size_t bytes)
{
    uint32_t used = chunk_used(entry->last);
    CHECK(entry->state == ENTRY_FILLING && used + bytes <= chunk_capacity(entry->last));
    /* release pairs with the acquire in chunk_used: the bytes are there before the length says so */
    atomic_store_explicit(&entry->last->used_bytes, used + (uint32_t)bytes, memory_order_release);
    entry->body_bytes += bytes;
    entry->has_news = true;
    if (UNLIKELY(entry->body_bytes > entry->keep_bytes_max) && entry->keep_bytes_max > 0 && !entry->is_private) {
        entry_make_private(entry);
    }
}

enum result entry_append(struct entry *entry, struct bytes run)
{
    while (run.len > 0) {
        char *at;
        size_t room;
        enum result result = entry_room(entry, &at, &room);
        if (result != RESULT_OK) {
            return result;
        }
        size_t part = run.len < room ? run.len : room;
        memcpy(at, run.ptr, part);
        entry_commit(entry, part);
        run.ptr += part;
        run.len -= part;
    }
    return RESULT_OK;
}

bool entry_is_full(struct entry *entry)
{
    if (!entry->is_private || entry->body_bytes - entry->passed_bytes < entry->window_bytes_max) {
        return false;
    }
    entry->was_full = true;
    return true;
}

static void entry_end(struct entry *entry, enum entry_state state)
{
    CHECK(entry->state == ENTRY_FILLING);
    entry->state = state;
    entry->filler = NULL;
    entry->has_news = true;
}

void entry_complete(struct entry *entry, char *trailers, uint32_t trailer_bytes)
{
    entry->trailers = trailers;
    entry->trailer_bytes = trailer_bytes;
    entry_end(entry, ENTRY_COMPLETE);
}

void entry_fail(struct entry *entry, enum result why)
{
    entry->failure = why;
    entry_end(entry, ENTRY_FAILED);
}

/* A function of its own, not inlined: gcc 14 cannot see that entry_tell takes the cursor back before it returns. */
static __attribute__((noinline)) void cursor_push(struct entry *entry, struct entry_cursor *cursor)
{
    cursor->next = entry->readers.next;
    cursor->outer = entry->cursor;
    entry->cursor = cursor;
}

void entry_tell(struct entry *entry)
{
    if (!entry->has_news) {
        return;
    }
    entry->has_news = false;
    struct entry_cursor cursor = {.is_over = false};
    cursor_push(entry, &cursor);
    while (!cursor.is_over && cursor.next != &entry->readers) {
        struct entry_reader *reader = CONTAINER_OF(cursor.next, struct entry_reader, node);
        cursor.next = cursor.next->next;
        reader->on_progress(reader);
    }
    if (!cursor.is_over) {
        entry->cursor = cursor.outer;
    }
}

void entry_shed_slow(struct entry *entry, uint64_t below, bool others_wait)
{
    for (struct list_node *node = entry->readers.next; node != &entry->readers; node = node->next) {
        others_wait = others_wait || CONTAINER_OF(node, struct entry_reader, node)->position >= below;
    }
    struct entry_cursor cursor = {.is_over = false};
    cursor_push(entry, &cursor);
    while (!cursor.is_over && cursor.next != &entry->readers) {
        struct entry_reader *reader = CONTAINER_OF(cursor.next, struct entry_reader, node);
        cursor.next = cursor.next->next;
        if (reader->position < below && reader->on_slow != NULL) {
            reader->on_slow(reader, below, others_wait);
        }
    }
    if (!cursor.is_over) {
        entry->cursor = cursor.outer;
    }
}

/* ---- reading ---- */

/* Looks for the slowest reader. There must be one. */
static void find_slowest(struct entry *entry)
{
    uint64_t slowest = UINT64_MAX;
    uint32_t count = 0;
    for (struct list_node *node = entry->readers.next; node != &entry->readers; node = node->next) {
        uint64_t position = CONTAINER_OF(node, struct entry_reader, node)->position;
        count = position < slowest ? 1 : count + (position == slowest);
        slowest = position < slowest ? position : slowest;
    }
    entry->passed_bytes = slowest;
    entry->slowest_count = count;
}

void entry_reader_join(struct entry_reader *reader, struct entry *entry,
                       void (*on_progress)(struct entry_reader *reader))
{
    CHECK(!entry->is_private || list_is_empty(&entry->readers));
    *reader = (struct entry_reader){.entry = entry, .on_progress = on_progress};
    list_init(&reader->node);
    list_push_back(&entry->readers, &reader->node);
    if (entry->has_window) {
        find_slowest(entry);
    }
}

/* A reader that was at `from` has moved on, or left: perhaps it was the last of the slowest. */
static void window_moved(struct entry *entry, uint64_t from)
{
    if (from != entry->passed_bytes || --entry->slowest_count > 0) {
        return;
    }
    find_slowest(entry);
    if (entry->on_passed != NULL) {
        entry->on_passed(entry);
    }
    if (entry->was_full && entry->filler != NULL &&
        entry->body_bytes - entry->passed_bytes <= entry->window_bytes_max / 2) {
        entry->was_full = false;
        entry->filler->on_drained(entry->filler);
    }
}

void entry_reader_leave(struct entry_reader *reader)
{
    struct entry *entry = reader->entry;
    if (entry == NULL) {
        return;
    }
    for (struct entry_cursor *cursor = entry->cursor; cursor != NULL; cursor = cursor->outer) {
        if (cursor->next == &reader->node) {
            cursor->next = reader->node.next;
        }
    }
    list_remove(&reader->node);
    reader->entry = NULL;
    if (!list_is_empty(&entry->readers)) {
        if (entry->has_window) {
            window_moved(entry, reader->position);
        }
    } else if (entry->filler != NULL) {
        entry->filler->on_abandoned(entry->filler);
    }
}

static uint32_t body_bytes_in(const struct entry *entry, const struct chunk *chunk)
{
    return chunk_used(chunk) - (chunk == entry->head ? entry->head_bytes : 0);
}

static void entry_drop_first(struct entry *entry)
{
    struct chunk *chunk = entry->first;
    entry->first_at += body_bytes_in(entry, chunk);
    entry->first = atomic_load_explicit(&chunk->next, memory_order_relaxed);
    entry->is_trimmed = true;
    chunk_unref(chunk);
}

/* Lets go of what lies before `chunk`, the one its only reader has come to; where there are several (or NULL), of the
 * chunks that end before the slowest one's place: one that ends at it may be where somebody stands. */
static void entry_trim(struct entry *entry, const struct chunk *chunk)
{
    bool is_alone = chunk != NULL && entry->readers.next == entry->readers.prev;
    while (is_alone ? entry->first != chunk
                    : entry->first_at + body_bytes_in(entry, entry->first) < entry->passed_bytes) {
        entry_drop_first(entry);
    }
}

void entry_watch_slowest(struct entry *entry)
{
    entry->has_window = true;
    if (!list_is_empty(&entry->readers)) {
        find_slowest(entry);
    }
}

void entry_make_private(struct entry *entry)
{
    entry->is_private = true;
    entry_watch_slowest(entry);
}

void entry_reader_rewind(struct entry_reader *reader)
{
    CHECK(reader->entry->is_private && !reader->entry->is_trimmed);
    reader->chunk = NULL;
    reader->chunk_offset = 0;
    reader->position = 0;
    find_slowest(reader->entry);
}

struct bytes entry_reader_peek(struct entry_reader *reader, struct hold **ret_hold)
{
    struct chunk *chunk = reader->chunk;
    if (chunk == NULL) {
        chunk = reader->entry->first;
        if (chunk == NULL) {
            return BYTES_NONE;
        }
        reader->chunk = chunk;
        reader->chunk_offset = chunk == reader->entry->head ? reader->entry->head_bytes : 0;
    }
    uint32_t used = chunk_used(chunk);
    if (reader->chunk_offset == used) {
        struct chunk *next = atomic_load_explicit(&chunk->next, memory_order_acquire);
        if (next == NULL) {
            return BYTES_NONE;
        }
        if (reader->entry->is_private && reader->position > reader->entry->rewind_bytes_max) {
            entry_trim(reader->entry, next);
        }
        reader->chunk = next;
        reader->chunk_offset = 0;
        chunk = next;
        used = chunk_used(next);
    }
    const struct entry *entry = reader->entry;
    *ret_hold = entry->is_mirror ? NULL : entry->hold != NULL ? entry->hold : &chunk->hold;
    return (struct bytes){chunk->data + reader->chunk_offset, used - reader->chunk_offset};
}

void entry_reader_pass(struct entry_reader *reader, size_t bytes)
{
    uint64_t from = reader->position;
    reader->chunk_offset += (uint32_t)bytes;
    reader->position += bytes;
    if (reader->entry->has_window && bytes > 0) {
        window_moved(reader->entry, from);
    }
}

void entry_reader_acknowledge(struct entry_reader *reader, uint64_t position)
{
    struct entry *entry = reader->entry;
    uint64_t from = reader->position;
    reader->position = position;
    if (entry->has_window && position != from) {
        window_moved(entry, from);
    }
    if (entry->is_private && entry->first != NULL) {
        entry_trim(entry, NULL);
    }
}

void entry_reader_skip(struct entry_reader *reader, uint64_t position)
{
    struct hold *hold;
    while (reader->position < position) {
        struct bytes run = entry_reader_peek(reader, &hold);
        CHECK(run.len > 0);
        uint64_t left = position - reader->position;
        entry_reader_pass(reader, run.len < left ? run.len : left);
    }
}
