/* One thread writes, three read: whoever reads sees one write, whole, and never an older one than before. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/published.h"

enum { WORDS = 300, WRITES = 60000, READERS = 3 };

static struct published published;
static _Atomic bool is_over;

static void *write_all(void *context)
{
    (void)context;
    static uint64_t value[WORDS];
    for (uint64_t n = 1; n <= WRITES; n++) {
        for (unsigned i = 0; i < WORDS; i++) {
            value[i] = n;
        }
        published_write(&published, value);
    }
    atomic_store(&is_over, true);
    return NULL;
}

static void *read_all(void *context)
{
    uint64_t value[WORDS];
    uint64_t before = 0;
    uint64_t reads = 0;
    bool was_over;
    do {
        was_over = atomic_load(&is_over);
        if (!published_read(&published, value)) {
            continue;
        }
        reads++;
        for (unsigned i = 1; i < WORDS; i++) {
            if (value[i] != value[0]) {
                fprintf(stderr, "torn: word %u is of write %llu, word 0 of %llu\n", i, (unsigned long long)value[i],
                        (unsigned long long)value[0]);
                exit(1);
            }
        }
        if (value[0] < before) {
            fprintf(stderr, "back from %llu to %llu\n", (unsigned long long)before, (unsigned long long)value[0]);
            exit(1);
        }
        before = value[0];
    } while (!was_over);
    if (before != WRITES) {
        fprintf(stderr, "the last write was not seen: %llu\n", (unsigned long long)before);
        exit(1);
    }
    *(uint64_t *)context = reads;
    return NULL;
}

int main(void)
{
    if (published_init(&published, WORDS * sizeof(uint64_t)) != RESULT_OK) {
        return 1;
    }
    pthread_t readers[READERS];
    uint64_t reads[READERS];
    pthread_t writer;
    for (unsigned i = 0; i < READERS; i++) {
        if (pthread_create(&readers[i], NULL, read_all, &reads[i]) != 0) {
            return 1;
        }
    }
    if (pthread_create(&writer, NULL, write_all, NULL) != 0) {
        return 1;
    }
    pthread_join(writer, NULL);
    uint64_t sum = 0;
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
        sum += reads[i];
    }
    printf("%u writes, %llu reads\n", WRITES, (unsigned long long)sum);
    published_fini(&published);
    return 0;
}
