/* Any bytes as a configuration: it is read, or refused with at least one line that says why, each line printable. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "server/config.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    /* The environment is input too: two values that inputs can name, the same on every machine. */
    setenv("A", "1", 1);
    setenv("B", "x: [\n\"}'", 1);
    return 0;
}

static void check_lines(const char *said, size_t bytes)
{
    CHECK(bytes > 0 && said[bytes - 1] == '\n');
    const char *line = said;
    while (line < said + bytes) {
        const char *end = memchr(line, '\n', (size_t)(said + bytes - line));
        CHECK(strncmp(line, "f.yaml:", 7) == 0);
        for (const char *c = line; c < end; c++) {
            CHECK((unsigned char)*c >= 0x20 && *c != 0x7f);
        }
        line = end + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *said = NULL;
    size_t said_bytes = 0;
    FILE *errors = open_memstream(&said, &said_bytes);
    if (errors == NULL) {
        return 0;
    }
    struct config *config = NULL;
    enum result result = config_parse("f.yaml", (struct bytes){(const char *)data, size}, errors, &config);
    fclose(errors);
    if (result == RESULT_OK) {
        CHECK(said_bytes == 0);
        CHECK(config->listener_count > 0 && config->route_count > 0);
        for (unsigned i = 0; i < config->route_count; i++) {
            const struct config_route *route = &config->routes[i];
            CHECK((route->path.len > 0) != (route->path_prefix.len > 0));
            CHECK(route->name.len > 0);
            CHECK(route->kind == CONFIG_ROUTE_RESPOND || route->upstream < config->upstream_count);
            CHECK(route->kind != CONFIG_ROUTE_HTTP || route->cache.key_count > 0);
            for (unsigned p = 0; p < route->cache.key_count; p++) {
                CHECK(route->cache.key[p].kind != CONFIG_PART_NONE);
            }
        }
    } else {
        CHECK(result == RESULT_CONFIG && config == NULL);
        check_lines(said, said_bytes);
    }
    config_destroy(config);
    free(said);
    return 0;
}
