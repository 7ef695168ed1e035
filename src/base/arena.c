#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct arena_block {
    struct arena_block *older;
    size_t bytes;
    char data[];
};

enum { ARENA_BLOCK_BYTES = 4096 };

void arena_init(struct arena *arena, char *lent, size_t lent_bytes)
{
    /* The lent buffer need not be aligned; what is given must be. */
    size_t skip = lent == NULL ? 0 : (size_t)(-(uintptr_t)lent & 7);
    arena->lent = lent == NULL || lent_bytes < skip ? NULL : lent + skip;
    arena->lent_bytes = arena->lent == NULL ? 0 : lent_bytes - skip;
    arena->blocks = NULL;
    arena->next = arena->lent;
    arena->end = arena->lent == NULL ? NULL : arena->lent + arena->lent_bytes;
}

void arena_reset(struct arena *arena)
{
    struct arena_block *block = arena->blocks;
    while (block != NULL) {
        struct arena_block *older = block->older;
        free(block);
        block = older;
    }
    arena->blocks = NULL;
    arena->next = arena->lent;
    arena->end = arena->lent == NULL ? NULL : arena->lent + arena->lent_bytes;
}

void arena_fini(struct arena *arena)
{
    arena_reset(arena);
    arena->next = NULL;
    arena->end = NULL;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX / 2) {
        return NULL;
    }
    size_t rounded = (bytes + 7) & ~(size_t)7;
    if (arena->next == NULL || (size_t)(arena->end - arena->next) < rounded) {
        size_t block_bytes = rounded > ARENA_BLOCK_BYTES ? rounded : ARENA_BLOCK_BYTES;
        struct arena_block *block = malloc(sizeof(*block) + block_bytes);
        if (block == NULL) {
            return NULL;
        }
        block->older = arena->blocks;
        block->bytes = block_bytes;
        arena->blocks = block;
        arena->next = block->data;
        arena->end = block->data + block_bytes;
    }
    void *given = arena->next;
    arena->next += rounded;
    return given;
}

struct bytes arena_copy(struct arena *arena, struct bytes b)
{
    char *copy = arena_alloc(arena, b.len + 1);
    if (copy == NULL) {
        return BYTES_NONE;
    }
    if (b.len > 0) {
        memcpy(copy, b.ptr, b.len);
    }
    copy[b.len] = '\0';
    return (struct bytes){copy, b.len};
}

struct bytes arena_format(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) {
        return BYTES_NONE;
    }
    char *text = arena_alloc(arena, (size_t)length + 1);
    if (text == NULL) {
        return BYTES_NONE;
    }
    va_start(args, format);
    vsnprintf(text, (size_t)length + 1, format, args);
    va_end(args);
    return (struct bytes){text, (size_t)length};
}
