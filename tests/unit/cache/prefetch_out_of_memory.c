/* prefetch.c once more, under other names and over an allocator whose nth call fails. */
#include <criterion/criterion.h>
#include <stdlib.h>

static unsigned calls_until_failure;

static void *failing_calloc(size_t count, size_t bytes)
{
    return calls_until_failure > 0 && --calls_until_failure == 0 ? NULL : calloc(count, bytes);
}

#define calloc                failing_calloc
#define prefetch_create       nth_prefetch_create
#define prefetch_destroy      nth_prefetch_destroy
#define prefetch_memory_bytes nth_prefetch_memory_bytes
#define prefetch_learn        nth_prefetch_learn
#define prefetch_predict      nth_prefetch_predict
#include "../../../src/cache/prefetch.c"

Test(prefetch, without_memory_for_any_of_its_tables_there_is_none)
{
    const struct prefetch_options options = {
        .memory_bytes = PREFETCH_MEMORY_BYTES_MIN,
        .confidence_percent = 50,
        .support_min = 1,
        .window_ns = NANOS_PER_S,
    };
    unsigned failed = 0;
    struct prefetch *prefetch = NULL;
    while (prefetch == NULL) {
        calls_until_failure = failed + 1;
        prefetch = nth_prefetch_create(&options);
        failed += prefetch == NULL;
    }
    calls_until_failure = 0;
    cr_expect(failed == 4, "itself and three tables, not %u", failed);
    struct prefetch_guess guess;
    cr_expect(nth_prefetch_learn(prefetch, 1, 2, BYTES("/two"), NANOS_PER_S));
    cr_expect(!nth_prefetch_predict(prefetch, 1, &guess));
    cr_expect(nth_prefetch_memory_bytes(prefetch) <= options.memory_bytes);
    nth_prefetch_destroy(prefetch);
}
