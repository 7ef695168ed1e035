/* docs/configuration.md, made from the table of keys. */

#include "server/config_internal.h"

static const char introduction[] =
    "# Configuration\n"
    "\n"
    "One YAML file, given to `sluice serve FILE`. `sluice check FILE` reads it and says everything that is wrong\n"
    "with it, each with its line and what would be right; `serve` refuses what `check` does. The file is read once,\n"
    "at the start. `examples/` has files to begin with.\n"
    "\n"
    "```yaml\n"
    "listeners:\n"
    "  - address: 127.0.0.1:8080\n"
    "upstreams:\n"
    "  - name: models\n"
    "    endpoints: [\"127.0.0.1:8000\"]\n"
    "routes:\n"
    "  - path_prefix: /v1\n"
    "    inference: { upstream: models }\n"
    "```\n"
    "\n"
    "**Environment variables.** In any value, `${NAME}` stands for the variable's value and `${NAME:-default}` for\n"
    "the default when it is unset or empty; a variable that is unset and has no default is an error. `$${` is a `${`\n"
    "that stays as it is. Inside `[ ]` and `{ }` such a value needs quotes: `{ status: \"${STATUS:-200}\" }`.\n"
    "\n"
    "Three count by themselves, each where its key is left out: `CACHE_MAX_SIZE` (`cache.entries_max`),\n"
    "`CACHE_TTL_HOURS` (`ttl_ms` of every `inference` route's `cache`) and `DATABASE_PATH` (`cache.database`). What "
    "the\n"
    "file says goes before them, and they before the default; one that is empty counts as unset.\n"
    "\n"
    "**Numbers** are whole, and their unit is in the key's name: `_ms` are milliseconds, `_bytes` bytes. `10_485_760`\n"
    "may be written with underscores, and bytes as `10MB`: KB, MB, GB and TB are powers of 1024. **Anchors and "
    "aliases**\n"
    "(`&name`, `*name`) work; merge keys (`<<`) do not.\n"
    "\n"
    "This page is made from the table the server reads by (`src/server/config_keys.c`).\n";

static const char *type_name(const struct config_key *key)
{
    switch (key->type) {
    case CONFIG_SECTION: return key->alone == NULL ? "section" : "section; or true, false";
    case CONFIG_OPTIONAL: return "section";
    case CONFIG_LIST: return config_key_of_elements(key) == NULL ? "list of sections" : "list";
    case CONFIG_HEADERS: return "mapping";
    case CONFIG_BOOL: return key->words == NULL ? "true, false" : "true, false, auto";
    case CONFIG_NUMBER: return "number";
    case CONFIG_WORD: return "word";
    case CONFIG_LISTENS:
    case CONFIG_ENDPOINT: return "address";
    case CONFIG_HOST: return "host";
    case CONFIG_PATH: return "path";
    case CONFIG_METHOD: return "method";
    case CONFIG_UPSTREAM:
    case CONFIG_NAME: return "name";
    case CONFIG_MEMORY: return "bytes or percentage";
    case CONFIG_FILE: return "path";
    case CONFIG_PART: return "part";
    case CONFIG_FIELD: return "field name";
    case CONFIG_SECRET:
    case CONFIG_TEXT:
    case CONFIG_VALUE: return "text";
    }
    return "";
}

static void write_bounds(FILE *out, const struct config_key *key)
{
    unsigned long long min = (unsigned long long)key->min;
    unsigned long long max = (unsigned long long)key->max;
    switch (key->type) {
    case CONFIG_NUMBER:
        fprintf(out, "%llu–%llu%s%s%s%s%s", min, max, key->unit == NULL ? "" : " ", key->unit == NULL ? "" : key->unit,
                key->zero == NULL ? "" : ", `", key->zero == NULL ? "" : key->zero, key->zero == NULL ? "" : "`");
        break;
    case CONFIG_WORD:
        for (unsigned i = 0; key->words[i] != NULL; i++) {
            fprintf(out, "%s`%s`", i == 0 ? "" : ", ", key->words[i]);
        }
        break;
    case CONFIG_MEMORY: fprintf(out, "%d–%d%%, or %llu–%llu bytes, or 0", 1, CONFIG_PERCENT_MAX, min, max); break;
    case CONFIG_LIST:
    case CONFIG_HEADERS: fprintf(out, "%llu–%llu entries", min, max); break;
    case CONFIG_SECTION:
    case CONFIG_OPTIONAL:
    case CONFIG_BOOL: break;
    default: fprintf(out, "%llu–%llu bytes", min, max);
    }
}

static void write_default(FILE *out, const struct config_key *key)
{
    if (key->required) {
        fputs("**required**", out);
    } else if (key->fallback_says != NULL) {
        fputs(key->fallback_says, out);
    } else if (key->fallback != NULL) {
        fprintf(out, "`%s`", key->fallback);
    } else if (key->type != CONFIG_SECTION) {
        fputs("none", out);
    }
}

static bool has_page(const struct config_key *key)
{
    return key->type == CONFIG_SECTION || key->type == CONFIG_OPTIONAL ||
           (key->type == CONFIG_LIST && config_key_of_elements(key) == NULL);
}

static void write_row(FILE *out, const struct config_key *key)
{
    struct bytes name = config_key_name(key);
    fprintf(out, "| `%.*s` | %s | ", BYTES_ARG(name), type_name(key));
    write_default(out, key);
    fputs(" | ", out);
    write_bounds(out, key);
    fprintf(out, " | %s", key->help);
    if (key->variable != NULL) {
        fprintf(out, " Left out, the environment's `%s` counts%s%s.", key->variable,
                key->variable_unit == NULL ? "" : ", in ", key->variable_unit == NULL ? "" : key->variable_unit);
    }
    if (has_page(key)) {
        /* GitHub's anchor of the heading: the letters, in lower case. */
        fputs(" [Its keys](#", out);
        for (const char *c = key->path; *c != '\0'; c++) {
            if (*c != '.' && *c != '[' && *c != ']') {
                fprintf(out, "%c", *c);
            }
        }
        fputs(").", out);
    }
    const struct config_key *elements = key->type == CONFIG_LIST ? config_key_of_elements(key) : NULL;
    if (elements != NULL) {
        fprintf(out, " Each is %s", elements->help);
    }
    fputs(" |\n", out);
}

static void write_section(FILE *out, const struct config_key *container)
{
    if (container == NULL) {
        fputs("\n## The file\n\n", out);
    } else {
        fprintf(out, "\n## `%s%s`\n\n%s\n\n", container->path, container->type == CONFIG_LIST ? "[]" : "",
                container->help);
    }
    fputs("| key | type | default | bounds | what it does |\n|---|---|---|---|---|\n", out);
    for (unsigned i = 0; i < config_key_count(); i++) {
        if (config_key_is_in(config_key_at(i), container)) {
            write_row(out, config_key_at(i));
        }
    }
}

void config_write_reference(FILE *out)
{
    fputs(introduction, out);
    write_section(out, NULL);
    for (unsigned i = 0; i < config_key_count(); i++) {
        if (has_page(config_key_at(i))) {
            write_section(out, config_key_at(i));
        }
    }
}
