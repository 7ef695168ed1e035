// Feeds the kept inputs of a fuzz target to it once each, without libFuzzer, so that they are ordinary tests with
// every compiler and preset. Arguments are files and folders; a folder that does not exist holds nothing.
//
// Each input ends at an unmapped page: one byte read past it is a fault, with or without a sanitizer.

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static size_t inputs_run;

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "%s: %s: %s\n", path, what, strerror(errno));
    exit(1);
}

static void run_input(const char *path, FILE *file, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t span = (size + page - 1) / page * page;
    uint8_t *map = mmap(NULL, span + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        fail("mmap", path);
    if (mprotect(map + span, page, PROT_NONE) != 0)
        fail("mprotect", path);
    uint8_t *data = map + span - size;
    if (size > 0 && fread(data, 1, size, file) != size)
        fail("read", path);

    // Said before it runs: the last name printed is the input that crashed.
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, size);
    inputs_run++;
    munmap(map, span + page);
}

static void run_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno == ENOENT)
            return;
        fail("stat", path);
    }
    if (S_ISDIR(st.st_mode)) {
        struct dirent **names;
        int count = scandir(path, &names, NULL, alphasort);
        if (count < 0)
            fail("scandir", path);
        for (int i = 0; i < count; i++) {
            if (names[i]->d_name[0] != '.') {
                char *child;
                if (asprintf(&child, "%s/%s", path, names[i]->d_name) < 0)
                    fail("asprintf", path);
                run_path(child);
                free(child);
            }
            free(names[i]);
        }
        free(names);
        return;
    }
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail("open", path);
    run_input(path, file, (size_t)st.st_size);
    fclose(file);
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize != NULL)
        LLVMFuzzerInitialize(&argc, &argv);
    run_input("(empty input)", NULL, 0);
    for (int i = 1; i < argc; i++)
        run_path(argv[i]);
    printf("%zu inputs replayed\n", inputs_run);
    return 0;
}
