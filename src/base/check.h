/* CHECK stays on in release. It asserts what this code itself guarantees, and nothing else: never a
 * peer's input, memory pressure or what a system call returned. */
#ifndef SLUICE_BASE_CHECK_H
#define SLUICE_BASE_CHECK_H

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#define CHECK(condition)                                  \
    do {                                                  \
        if (UNLIKELY(!(condition))) {                     \
            check_failed(__FILE__, __LINE__, #condition); \
        }                                                 \
    } while (0)

_Noreturn void check_failed(const char *file, int line, const char *condition);

/* From a pointer to a member back to the struct that holds it. */
#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
