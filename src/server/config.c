/* The configuration's entry: reads the file, takes the text through the steps of config_internal.h. */

#include "server/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/config_internal.h"

void config_destroy(struct config *config)
{
    if (config == NULL) {
        return;
    }
    struct arena arena = config->arena;
    arena_fini(&arena);
    free(config);
}

static struct config *create(void)
{
    struct config *config = calloc(1, sizeof(*config));
    if (config != NULL) {
        arena_init(&config->arena, NULL, 0);
    }
    return config;
}

enum result config_parse(const char *path, struct bytes text, FILE *errors, struct config **ret_config)
{
    struct config_reader reader = {.path = path, .text = text, .config = create()};
    if (reader.config == NULL) {
        return RESULT_NO_MEMORY;
    }
    arena_init(&reader.scratch, NULL, 0);
    static const struct bytes byte_order_mark = {"\xef\xbb\xbf", 3}; /* some editors put one in front of UTF-8 */
    if (bytes_starts_with(text, byte_order_mark)) {
        reader.text.ptr += byte_order_mark.len;
        reader.text.len -= byte_order_mark.len;
    }
    if (text.len > CONFIG_FILE_BYTES_MAX) {
        config_complain_at(&reader, 0, 0, "it has more than %d bytes; is it a configuration?", CONFIG_FILE_BYTES_MAX);
    } else {
        const struct config_node *root = config_read_tree(&reader);
        if (root != NULL) {
            config_walk(&reader, root);
            config_check(&reader, root);
        }
    }
    enum result result = RESULT_OK;
    if (reader.no_memory) {
        result = RESULT_NO_MEMORY;
    } else if (reader.fault_count > 0) {
        config_write_faults(&reader, errors);
        result = RESULT_CONFIG;
    } else {
        *ret_config = reader.config;
        reader.config = NULL;
    }
    config_destroy(reader.config);
    arena_fini(&reader.scratch);
    return result;
}

static void complain_of_file(const char *path, FILE *errors, int error)
{
    const char *advice = error == ENOENT   ? "check its name"
                         : error == EACCES ? "let this user read it"
                         : error == EISDIR ? "name a file in it"
                                           : "check that it is an ordinary file";
    fprintf(errors, "%s: cannot be read: %s; %s\n", path, strerror(error), advice);
}

/* One byte more than is allowed is read, so that config_parse sees when it is too many. */
static enum result read_file(const char *path, FILE *errors, char **ret_text, size_t *ret_bytes)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        complain_of_file(path, errors, errno);
        return RESULT_CONFIG;
    }
    enum result result = RESULT_OK;
    char *text = malloc(CONFIG_FILE_BYTES_MAX + 1);
    if (text == NULL) {
        result = RESULT_NO_MEMORY;
        goto out;
    }
    size_t bytes = fread(text, 1, CONFIG_FILE_BYTES_MAX + 1, file);
    if (ferror(file)) {
        complain_of_file(path, errors, errno);
        result = RESULT_CONFIG;
        goto out;
    }
    *ret_text = text;
    *ret_bytes = bytes;
    text = NULL;
out:
    free(text);
    fclose(file);
    return result;
}

enum result config_load(const char *path, FILE *errors, struct config **ret_config)
{
    char *text;
    size_t bytes;
    enum result result = read_file(path, errors, &text, &bytes);
    if (result != RESULT_OK) {
        return result;
    }
    result = config_parse(path, (struct bytes){text, bytes}, errors, ret_config);
    free(text);
    return result;
}
